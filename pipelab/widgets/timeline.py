"""Timeline: a trace to play, to step through, to follow and to compare, in a notebook or a file.

All of that happens in the browser, from data that came once: it goes on while the kernel works,
and in the file that ``to_html`` writes. Viewers without our front end get a still picture.
"""

from os import PathLike
from pathlib import Path
from typing import Any

import anywidget
from traitlets import Bytes, Dict

from pipelab.files import replace_text
from pipelab.plots import describe, plot_compare, plot_timeline, timeline_text
from pipelab.trace import Trace
from pipelab.widgets import front
from pipelab.widgets.data import frame, head, packed
from pipelab.widgets.over import Over, overlay
from pipelab.widgets.page import page
from pipelab.widgets.still import image, png, still


class Timeline(anywidget.AnyWidget):
    """A trace, to be the last line of a notebook's cell.

    Args:
        trace: predicted or recorded.
        over: what to draw over it: another trace of as many ranks, a Schedule (predicted with the
            costs seen in ``trace``), or what you guessed: seconds, a share such as ``"30 %"``, or
            shares by (ranks, microbatches), of which the one that fits ``trace`` is drawn.
        budget: bytes that a rank may hold, drawn as a line over the memory.

    Raises:
        TraceError: ``over`` cannot be compared with ``trace``.
    """

    _esm = front.script(*front.PARTS, "single")
    _css = front.style("timeline")

    data = Bytes(b"").tag(sync=True)
    head = Dict().tag(sync=True)
    ghost_data = Bytes(b"").tag(sync=True)
    ghost_head = Dict().tag(sync=True)

    def __init__(self, trace: Trace, over: Over | None = None, *, budget: int | None = None):
        self.trace = trace
        self._above = above = overlay(trace, over)
        told = head(trace) | {"alt": f"{describe(trace)} {above.words}".strip()}
        words = {"comparison": above.numbers, "guess": above.guess, "budget": budget}
        super().__init__(
            data=packed(trace.events),
            head=told | {name: value for name, value in words.items() if value},
            ghost_data=packed(above.trace.events) if above.trace else b"",
            ghost_head=frame(above.trace) if above.trace else {},
        )

    def to_html(self, path: str | PathLike[str]) -> Path:
        """Write one file that plays anywhere, without a kernel and without a network."""
        return replace_text(Path(path), self._page())

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the still picture: PNG, SVG or PDF, as the file's name says.

        With another trace over it, both stand one above the other.
        """
        path = Path(path)
        above = self._above
        if above.trace is None:
            figure = plot_timeline(self.trace, line=above.line)
        else:
            figure = plot_compare(above.trace, self.trace)
        figure.savefig(path)
        return path

    def __repr__(self) -> str:
        return "\n".join(filter(None, (timeline_text(self.trace), self._above.words)))

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The widget, and beside it a still picture for notebooks that no kernel runs."""
        bundle = super()._repr_mimebundle_(**options)
        if bundle is not None:
            picture = png(self.trace, self._above.line)
            bundle[0].update(still(self.trace, picture, self._above.words))
            bundle[0]["text/plain"] = repr(self)
        return bundle

    def _page(self) -> str:
        names = ("data", "head", "ghost_data", "ghost_head")
        state = {name: getattr(self, name) for name in names}
        picture = image(self.trace, png(self.trace, self._above.line), self._above.words)
        return page(self._esm, self._css, state, describe(self.trace), picture)

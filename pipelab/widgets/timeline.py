"""Timeline: a trace to play, to step through, to follow and to compare, in a notebook or a file.

All of that happens in the browser, from data sent once: it works while the kernel is busy, and in
the file that ``to_html`` writes. Viewers without our front end get a static picture.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from traitlets import Bytes, Dict

from pipelab.files import replace_text
from pipelab.plots import describe, plot_compare, plot_timeline, timeline_text
from pipelab.trace import Trace
from pipelab.widgets import bundle
from pipelab.widgets.data import timeline_state
from pipelab.widgets.export import ExportedWidget
from pipelab.widgets.overlay import Over, overlay
from pipelab.widgets.page import page
from pipelab.widgets.static_picture import image, png, still
from pipelab.widgets.stored_state import stored


class Timeline(ExportedWidget):
    """A trace, to be the last line of a notebook's cell.

    Args:
        trace: predicted or recorded.
        over: what to draw over it: another trace, whatever its ranks, schedule and steps; a
            Schedule (predicted with the costs seen in ``trace``); or what you guessed: seconds, a
            share such as ``"30 %"``, or shares by (ranks, microbatches), of which the one that fits
            ``trace`` is drawn.
        budget: bytes that a rank may hold, drawn as a line over the memory.
        show: what is drawn beside boxes and idle time at first, of ``"messages"``, ``"memory"`` and
            ``"prediction"`` (what is ``over`` it); by default what ``over`` and ``budget`` need.
            Buttons show and hide each.

    Raises:
        TraceError: ``over`` cannot be compared with ``trace``, or ``show`` holds another name.
    """

    _esm = bundle.script("single")
    _css = bundle.style("timeline")

    data = Bytes(b"").tag(sync=True)
    head = Dict().tag(sync=True)
    ghost_data = Bytes(b"").tag(sync=True)
    ghost_head = Dict().tag(sync=True)

    def __init__(
        self,
        trace: Trace,
        over: Over | None = None,
        *,
        budget: int | None = None,
        show: Sequence[str] | None = None,
    ):
        self.trace = trace
        self._above = overlay(trace, over)
        self._esm = bundle.script("single", trace.setting.story)
        super().__init__(**timeline_state(trace, over, budget, show))

    def to_html(self, path: str | PathLike[str]) -> Path:
        """Write one file that plays anywhere, without a kernel and without a network."""
        return replace_text(Path(path), self._page())

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the static picture: PNG, SVG or PDF, as the file's name says.

        With another trace over it, one is drawn above the other.
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
        """The widget; for notebooks without a kernel a static picture, and what plays elsewhere."""
        outputs = super()._repr_mimebundle_(**options)
        if outputs is not None:
            picture = png(self.trace, self._above.line, self.show)
            outputs[0].update(still(self.trace, picture, self._above.words))
            outputs[0].update(stored(self._state(), self.trace.setting.story))
            outputs[0]["text/plain"] = repr(self)
        return outputs

    def _exported(self) -> tuple[Trace, str]:
        return self.trace, self._page()

    def _page(self) -> str:
        picture = image(self.trace, png(self.trace, self._above.line, self.show), self._above.words)
        return page(self._esm, self._css, self._state(), describe(self.trace), picture)

    def _state(self) -> dict[str, object]:
        names = ("data", "head", "ghost_data", "ghost_head", "show")
        return {name: getattr(self, name) for name in names}

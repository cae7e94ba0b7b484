"""A trace for viewers without our front end: a picture, the same in a sentence, in a table.

The picture is an HTML ``<img>``, since JupyterLab shows no alternative text for a bare PNG. The
PNG is for PDF and for viewers without HTML. No SVG: untrusted notebooks drop it.
"""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Text
from PIL import Image

from pipelab.plots import describe, plot_timeline
from pipelab.plots.palette import PURPLE, VERMILLION, idle_shade
from pipelab.plots.terminal import table_html
from pipelab.trace import Trace

MIDDLE = "#797979"  # more than 4.2:1 both on white and on the dark theme's #111111
_DPI = 144  # sharp on a projector
# Idle time on any ground: for each shade, a colour and its opacity.
_CLEAR = {
    idle_shade("waiting"): (MIDDLE, 0.3),
    idle_shade("message"): (PURPLE, 0.45),
    idle_shade("imbalance"): (VERMILLION, 0.4),
    idle_shade("done"): (MIDDLE, 0.12),
    idle_shade("overhead"): (MIDDLE, 0.65),
}


def png(trace: Trace, line: tuple[float, str] | None = None, show: Sequence[str] = ()) -> bytes:
    """The picture of a trace; with a palette of 128 colours, a third of the usual size.

    It has no background and grey words, since a notebook's theme is light or dark.

    Args:
        line: seconds and words of a predicted end.
        show: with ``"messages"`` they are drawn, too.
    """
    figure = plot_timeline(trace, line=line, messages="messages" in show)
    _fit_any_theme(figure)
    raw, small = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="rgba", dpi=_DPI, transparent=True)
    width, height = (int(inches * _DPI) for inches in figure.get_size_inches())
    full = Image.frombytes("RGBA", (width, height), raw.getvalue())
    full.quantize(128, Image.Quantize.FASTOCTREE).save(small, "png")
    return small.getvalue()


def _fit_any_theme(figure: Figure) -> None:
    """Grey for all that stands on the background; what is in a box stays as it is."""
    for ax in figure.axes:
        ax.tick_params(colors=MIDDLE)
        ax.spines["bottom"].set_color(MIDDLE)
        for text in ax.findobj(Text):
            if isinstance(text, Text) and text.get_transform() != ax.transData:
                text.set_color(MIDDLE)
        for line in ax.lines:
            line.set(color=MIDDLE, path_effects=[])
        for idle in ax.findobj(lambda artist: isinstance(artist, Patch | PolyCollection)):
            assert isinstance(idle, Patch | PolyCollection)
            if str(idle.get_label()).startswith("idle: "):
                shade = to_hex(np.atleast_2d(idle.get_facecolor())[0]).upper()
                idle.set(facecolor=_CLEAR[shade], edgecolor="none")


def still(trace: Trace, picture: bytes, said: str = "", note: str = "") -> dict[str, str]:
    """The trace for viewers without our front end: as HTML and as PNG.

    Args:
        said: what was predicted and what was measured; also part of the alternative text.
        note: a sentence below the picture.
    """
    below = "".join(f"<p>{escape(text)}</p>" for text in (said, note) if text)
    html = (
        f"<div>{image(trace, picture, said)}</div>{below}"
        f"<details><summary>The same as a table</summary>{table_html(trace)}</details>"
    )
    return {"text/html": html, "image/png": base64.b64encode(picture).decode("ascii")}


def image(trace: Trace, picture: bytes, said: str = "") -> str:
    """The picture as an element, with its words, and with what was predicted."""
    data = base64.b64encode(picture).decode("ascii")
    words = escape(f"{describe(trace)} {said}".strip())
    return f'<img alt="{words}" src="data:image/png;base64,{data}" style="max-width: 100%">'

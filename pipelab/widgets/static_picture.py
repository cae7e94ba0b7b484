"""A trace for viewers without our front end: a picture, the same in a sentence, in a table.

The picture is an HTML ``<img>``, since JupyterLab shows no alternative text for a bare PNG. The
PNG is for PDF and for viewers without HTML. No SVG: untrusted notebooks drop it.
"""

import base64
from collections.abc import Sequence
from html import escape

from pipelab.plots import describe, plot_timeline
from pipelab.plots.any_theme import png_of
from pipelab.plots.terminal import table_html
from pipelab.trace import Trace


def png(trace: Trace, line: tuple[float, str] | None = None, show: Sequence[str] = ()) -> bytes:
    """The picture of a trace; it fits light and dark themes.

    Args:
        line: seconds and words of a predicted end.
        show: with ``"messages"`` they are drawn, too.
    """
    return png_of(plot_timeline(trace, line=line, messages="messages" in show))


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

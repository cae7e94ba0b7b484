"""Timelines on a page: what a notebook stored, or a trace, as an element that plays it.

<div class="pipelab-timeline" data-story="">          site.js renders it when it comes near
  <div>picture and table</div>                        for browsers without scripts
  <script type="application/json">values</script>     of the front end, unchanged
</div>
"""

from html import escape

from nbformat import NotebookNode

from pipelab.plots.terminal import describe, table_html
from pipelab.story import STORIES
from pipelab.trace import Trace
from pipelab.widgets import bundle
from pipelab.widgets.data import timeline_state
from pipelab.widgets.overlay import Over
from pipelab.widgets.page import portable
from pipelab.widgets.stored_state import MIME, unpacked

_WIDGET = "application/vnd.jupyter.widget-view+json"
_EXPORT = "export default"


def player() -> str:
    """A classic script with the widget's front end in the words of each story.

    Not a module: browsers load none from a disk.
    """
    parts = []
    for story in ("", *STORIES):
        code, _, default = bundle.script("single", story).rpartition(_EXPORT)
        parts.append(f'pipelabViews["{story}"] = (() => {{{code}return {default}}})();\n')
    return "window.pipelabViews = {};\n" + "".join(parts)


def playable(trace: Trace, over: Over | None = None, show: list[str] | None = None) -> str:
    """A trace as an element that plays it."""
    values = portable(timeline_state(trace, over, show=show))
    still = f"<p>{escape(describe(trace))}</p>{table_html(trace)}"
    return _element(values, trace.setting.story, still)


def play_outputs(notebook: NotebookNode) -> int:
    """Make each stored timeline of a notebook playable, in place; returns how many are."""
    count = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop(_WIDGET, None)  # its model was in a kernel that has gone
            if MIME in data:
                story, values = unpacked(data.pop(MIME))
                data["text/html"] = _element(values, story, data.get("text/html", ""))
                count += 1
    return count


def _element(values: str, story: str, still: str) -> str:
    """On one line, and without empty ones: to Markdown it is one piece of HTML."""
    safe = values.replace("</", "<\\/").replace("<!--", "<\\!--")
    text = (
        f'<div class="pipelab-timeline" data-story="{escape(story)}">'
        f'<div class="pipelab-still">{still}</div>'
        f'<script type="application/json">{safe}</script></div>'
    )
    return text.replace("\n", " ")

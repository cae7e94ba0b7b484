"""One HTML file that plays a trace: no kernel, no network, no other file.

The front end is the widget's, unchanged: a page holds it as text, makes a module of it, and gives
it a model that reads its values from the page. This needs neither torch nor matplotlib nor
anywidget, so it also works where only Python is.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape

from pipelab.plots.terminal import describe, table_html
from pipelab.trace import Trace
from pipelab.widgets import bundle
from pipelab.widgets.data import timeline_state
from pipelab.widgets.overlay import Over

# No address but the page's own, so it can load nothing and send nothing.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:"
)
_START = """
const text = (id) => document.getElementById(id).textContent;
const values = JSON.parse(text("state"));
for (const [name, value] of Object.entries(values)) if (value?.base64 !== undefined)
  values[name] = new DataView(Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0)).buffer);
const nothing = () => {};
const model = { get: (name) => values[name], set: (name, value) => { values[name] = value; },
  on: nothing, off: nothing, save_changes: nothing, send: nothing };
const address = URL.createObjectURL(new Blob([text("front-end")], { type: "text/javascript" }));
const { default: view } = await import(address);
view.render({ model, el: document.getElementById("view") });
document.body.dataset.plReady = "true";
"""


def timeline_page(
    trace: Trace,
    over: Over | None = None,
    *,
    budget: int | None = None,
    show: Sequence[str] | None = None,
) -> str:
    """The text of an HTML file that plays a trace, with a table for browsers without scripts.

    Args:
        trace: predicted or recorded.
        over: another trace, a schedule or a guess to draw over it, as in ``Timeline``.
        budget: bytes that a rank may hold.
        show: what is drawn beside the boxes at first, as in ``Timeline``.

    Raises:
        TraceError: ``over`` cannot be compared with ``trace``, or ``show`` holds another name.
    """
    return page(
        bundle.script("single", trace.setting.story),
        bundle.style("timeline"),
        timeline_state(trace, over, budget, show),
        title=describe(trace),
        still=table_html(trace),
    )


def page(
    script: str,
    style: str,
    state: Mapping[str, object],
    title: str,
    still: str,
    policy: str = _POLICY,
) -> str:
    """The file's text.

    Args:
        script: the front end, a module whose default export has ``render``.
        style: its style sheet.
        state: the traits that it asks for; bytes travel as base64.
        title: words for the tab.
        still: HTML for readers whose browser runs no scripts.
        policy: what the page may load, as a Content-Security-Policy: nothing but itself.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{bundle.style('page')}\n{style}\n</style>\n"
        f'</head>\n<body>\n<div id="view"></div>\n<noscript>{still}</noscript>\n'
        f'<script type="application/json" id="state">{_inside(portable(state))}</script>\n'
        f'<script type="text/plain" id="front-end">{_inside(script)}</script>\n'
        f'<script type="module">{_START}</script>\n</body>\n</html>\n'
    )


def portable(state: Mapping[str, object]) -> str:
    """The traits of a front end as JSON; bytes travel as base64."""
    return json.dumps({name: _as_text(value) for name, value in state.items()})


def _as_text(value: object) -> object:
    return (
        {"base64": base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value
    )


def _inside(text: str) -> str:
    """A text that cannot end the script element around it."""
    return text.replace("</", "<\\/").replace("<!--", "<\\!--")

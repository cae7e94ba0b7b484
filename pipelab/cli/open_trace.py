"""``pipelab open``: somebody's recorded pipeline, and why its bubble is there.

The timeline of one step, then the diagnosis of all; ``--html`` writes a page that plays the step
with its simulation over it, ``--json`` prints the figures.
"""

import argparse
import json
from dataclasses import replace
from html import escape
from pathlib import Path

from pipelab.analysis import Diagnosis, diagnose
from pipelab.analysis.order import schedule_of
from pipelab.analysis.own_costs import cost_of
from pipelab.analysis.screen import answer, answer_lines, screen
from pipelab.cli.console import CommandError, ReadingLine, has_scrolled, say, width
from pipelab.files import replace_text
from pipelab.plots.terminal import timeline_text
from pipelab.simulator import simulate
from pipelab.trace import Trace
from pipelab.widgets.page import timeline_page


def open_trace(arguments: argparse.Namespace) -> None:
    """Read, explain, and show or write. Raises TraceError for what cannot be read."""
    line = ReadingLine()
    traces = Trace.read(arguments.files, line.show)
    line.end()
    found = diagnose(traces, arguments.step, arguments.replica)
    columns = arguments.width or width()
    if arguments.html:
        _write(arguments.html, page_of(found))
    if arguments.perfetto:
        try:
            found.trace.to_chrome(arguments.perfetto)
        except OSError as error:
            raise CommandError(_cannot(arguments.perfetto, error)) from None
    if arguments.json:
        say(json.dumps(found.data(), indent=2, ensure_ascii=False))
        return
    text = f"{timeline_text(found.trace, columns)}\n\n{screen(found, columns)}"
    say(text)
    if has_scrolled(text):
        say(f"\n{answer_lines(found, columns)}")
    for path in (arguments.html, arguments.perfetto):
        if path:
            say(f"{'written':<11}{path}")


def page_of(found: Diagnosis) -> str:
    """An HTML file: the answer, the step with its simulation over it, and the diagnosis below."""
    over = None
    if found.simulated:
        schedule = schedule_of(found.trace)
        simulated = simulate(schedule, cost_of(found.trace, schedule))
        over = replace(simulated, setting=replace(simulated.setting, schedule=found.schedule))
    text = timeline_page(found.trace, over)
    below = f'<pre style="margin: 1em; white-space: pre-wrap">{escape(screen(found))}</pre>'
    style = "margin: 1em; max-width: 60em; font: 1.1em sans-serif"
    above = f'<p style="{style}">{escape(answer(found))}</p>'
    head, body, rest = text.partition("<body>")
    middle, end, tail = rest.rpartition("</body>")
    return "".join((head, body, above, middle, below, end, tail))


def _write(path: str, text: str) -> None:
    try:
        replace_text(Path(path), text)
    except OSError as error:
        raise CommandError(_cannot(path, error)) from None


def _cannot(path: str, error: OSError) -> str:
    return f"cannot write {path} ({error.strerror or error}): choose another name or folder"

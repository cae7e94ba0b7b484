"""The report of a plan that was run: Markdown, and one HTML file that needs no other.

It states what ran and what it showed, predicted beside recorded. What was not run stands in it as
"not run": nobody who reads it has to guess.
"""

import base64
from collections.abc import Iterator, Sequence
from html import escape
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from pipelab.errors import LessonError
from pipelab.files import replace_text, replacing
from pipelab.lessons import progress_file
from pipelab.lessons.plan_run import MACHINE, Run, the_model
from pipelab.lessons.plans import Machine, memory, par, price, schedule_of, seconds
from pipelab.lessons.torch_run import TorchRun
from pipelab.plots import describe
from pipelab.plots.terminal import source_text, table_html
from pipelab.schedules.counts import count_messages
from pipelab.widgets.static_picture import png
from pipelab.words import bytes_text, number, percent, time_text

__all__ = ["write_report"]

_TITLE = "A training on a grid of ranks: planned, predicted, run"
_NOT_RUN = "not run"
_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border: 1px solid #797979; padding: 0.25rem 0.6rem; text-align: left; }
img { max-width: 100%; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class _Section(NamedTuple):
    """A heading with a text, and a table if there are rows."""

    title: str
    text: str
    rows: Sequence[Sequence[str]] = ()  # the first one has the heads


def write_report(
    run: Run,
    folder: str | PathLike[str] | None = None,
    machine: Machine = MACHINE,
    budget: int | None = None,
    on_torch: TorchRun | None = None,
) -> Path:
    """Write ``report.md``, ``report.html``, the timeline, its trace, and the schedule as CSV.

    Args:
        run: what pipelab's ranks did, by ``plan_run.run``.
        folder: is made if it is not there; files of these names in it are replaced. Without one,
            ``report`` beside the learner's progress.
        machine: whose numbers the run was paced by.
        budget: bytes on each rank that the plan was chosen for.
        on_torch: the same plan by torch.distributed.pipelining, if that was run.

    Returns:
        The HTML file.

    Raises:
        LessonError: ``on_torch`` is the run of another plan.
    """
    if on_torch is not None and on_torch.plan != run.plan:
        raise LessonError(
            f"torch ran the plan {on_torch.plan}, these ranks {run.plan}: run the same one on both"
        )
    place = progress_file.path().parent / "report" if folder is None else Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    picture = png(run.trace)
    sections = [*_sections(run, machine, budget, on_torch)]
    with replacing(place / "timeline.png") as file:
        file.write(picture)
    replace_text(place / "schedule.csv", schedule_of(run.plan).to_csv())
    replace_text(place / "report.md", _markdown(run, sections))
    run.trace.save(place / "trace.json")
    return replace_text(place / "report.html", _html(run, sections, picture))


def _sections(
    run: Run, machine: Machine, budget: int | None, on_torch: TorchRun | None
) -> Iterator[_Section]:
    model, plan = the_model(), run.plan
    limit = "no limit" if budget is None else f"{budget:,} bytes on each rank"
    yield _Section(
        "The plan",
        f"A tiny GPT of {number(len(model.layers), 'layer')} and {model.rows} rows a step, on "
        f"{number(machine.ranks, 'rank')}; memory: {limit}.",
        [
            ("replicas", "stages", "layers of each stage", "schedule", "microbatches of a replica"),
            (
                str(plan.replicas), str(len(plan.sizes)), ", ".join(map(str, plan.sizes)),
                plan.schedule, str(plan.microbatches),
            ),
        ],
    )  # fmt: skip
    yield _Section("Predicted and recorded", _verdict(run, machine, budget), [*_figures(run)])
    yield _Section(
        "Is it the same training?",
        "Three steps of SGD with momentum on one batch; parameters beside those of one process "
        "that took the whole batch at once.",
        [("engine", "loss, first step", "loss, last step", "parameters"), *_engines(run, on_torch)],
    )
    yield _Section(
        "What this report does not say",
        f"Times are paced: each action was set to last as long as on a machine with "
        f"{price(machine, model, plan)}, and not as long as this computer needs. No GPU was used. "
        f"schedule.csv has the form that torchtitan reads; torchtitan itself was not run.",
    )


def _verdict(run: Run, machine: Machine, budget: int | None) -> str:
    """How the plan stands against the budget and against par, which is on paper."""
    model, most = the_model(), max(run.held)
    words = [run.trace.warning] if run.trace.warning else []
    if budget is not None:
        word = "within" if most <= budget else "ABOVE"
        words.append(f"The fullest rank held {most:,} bytes, {word} the budget of {budget:,}.")
    best = par(machine, model, float("inf") if budget is None else budget)
    times = seconds(machine, model, run.plan) / seconds(machine, model, best)
    words.append(f"Par, the best plan of pipelab's own search: {best}.")
    words.append(f"On paper this plan takes {times:.2f} times as long.")
    return " ".join(words)


def _figures(run: Run) -> Iterator[Sequence[str]]:
    held = max(memory(the_model(), run.plan))
    yield "", "predicted", "recorded"
    yield "fullest rank", bytes_text(round(held)), bytes_text(max(run.held))
    yield "a step", time_text(run.on_paper_seconds), time_text(run.seconds)
    yield "bubble", percent(run.on_paper.bubble_fraction, 1), percent(run.trace.bubble_fraction, 1)
    messages = run.plan.replicas * count_messages(schedule_of(run.plan))
    sent = sum(e.kind.startswith("SEND") for e in run.trace.events)
    yield "messages between stages", str(messages), str(sent)
    yield "processes left at the end", "0", str(run.left)


def _engines(run: Run, on_torch: TorchRun | None) -> Iterator[Sequence[str]]:
    first, *_, last = run.losses
    yield (
        f"pipelab, {number(run.trace.num_ranks, 'rank')}",
        f"{first:.4f}",
        f"{last:.4f}",
        str(run.parameters),
    )
    name = "torch.distributed.pipelining under torchrun"
    if on_torch is None:
        yield name, _NOT_RUN, _NOT_RUN, _NOT_RUN
        return
    first, *_, last = on_torch.losses
    yield name, f"{first:.4f}", f"{last:.4f}", str(on_torch.parameters)


def _markdown(run: Run, sections: Sequence[_Section]) -> str:
    parts = [f"# {_TITLE}"]
    for section in sections:
        parts += [f"## {section.title}", section.text]
        if section.rows:
            head, *body = (f"| {' | '.join(row)} |" for row in section.rows)
            parts.append("\n".join([head, "|" + "---|" * len(section.rows[0]), *body]))
    alt = describe(run.trace).replace("[", "(").replace("]", ")")
    parts += ["## The timeline", f"![{alt}](timeline.png)", source_text(run.trace), ""]
    return "\n\n".join(parts)


def _html(run: Run, sections: Sequence[_Section], picture: bytes) -> str:
    body = "\n".join(map(_section_html, sections))
    data = base64.b64encode(picture).decode("ascii")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(_TITLE)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(_TITLE)}</h1>\n{body}\n<h2>The timeline</h2>\n"
        f'<img alt="{escape(describe(run.trace))}" src="data:image/png;base64,{data}">\n'
        f"<details><summary>The same as a table</summary>{table_html(run.trace)}</details>\n"
        f"</body>\n</html>\n"
    )


def _section_html(section: _Section) -> str:
    text = f"<h2>{escape(section.title)}</h2>\n<p>{escape(section.text)}</p>"
    if not section.rows:
        return text
    heads, *rows = section.rows
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f"{text}\n<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

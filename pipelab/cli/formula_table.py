"""``pipelab formulas``: what papers say, beside what the simulator and real ranks show.

table      one block for each schedule: each formula, its figures, and when it holds
markdown   the same as a table for the guides
"""

import argparse
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from pipelab.cli.console import CommandError, import_engine, moves, say, width
from pipelab.cli.prices import PRICES, Prices, prices
from pipelab.cli.show import MICROBATCHES, RANKS, STAGES_PER_RANK, check_options, key
from pipelab.errors import ScheduleError
from pipelab.schedules.catalogue import BUILDERS, title_of
from pipelab.schedules.formulas import Case, Figure
from pipelab.schedules.recognition import order_of
from pipelab.simulator.claims import Judged, built, cost_of, figure_of, judge
from pipelab.words import number, table_text

UNIT_SECONDS = 0.02  # of a recorded unit, where the times given have none
_WORDS = {
    Figure.IDLE: "idle in the step",
    Figure.SPAN: "idle in its span",
    Figure.PEAK: "activations held",
}
_LEGEND = (
    "p ranks, m microbatches, v stages on each rank; B = I + W. Idle in the step: on the rank that "
    "has most, from the first start to the last end of all. Idle in its span: from the rank's own "
    "first start to its own last end. Activations held: the most on any rank, in microbatches of "
    "its slice."
)
_RECORDED = "Recorded: real ranks, real messages, each action paced to its cost."


@dataclass(frozen=True)
class Line:
    """One formula, judged; ``recorded`` in the unit of the others, None if nothing was."""

    judged: Judged
    recorded: float | None = None

    @property
    def condition(self) -> str:
        """When it holds, in words."""
        condition = self.judged.claim.condition
        return f"if {condition}" if condition else "always"

    @property
    def outcome(self) -> str:
        """Whether it holds here, and by how much it fails."""
        if self.judged.agrees:
            return "holds" if self.judged.applies else "holds by chance"
        return f"fails by {self.judged.difference:+.4g}"


@dataclass(frozen=True)
class Block:
    """One schedule with its formulas, or why it cannot be had in these sizes."""

    name: str
    lines: tuple[Line, ...] = ()
    refused: str = ""


def formulas(arguments: argparse.Namespace) -> None:
    """Print the formulas of the schedules that were asked for, or of all."""
    names = [key(name) for name in arguments.schedules] or list(BUILDERS)
    if unknown := [name for name in names if name not in BUILDERS]:
        raise CommandError(
            f"no schedule is called {unknown[0]!r}: choose from {', '.join(BUILDERS)}"
        )
    check_options(names, arguments)
    priced = prices({price.name: getattr(arguments, price.name) for price in PRICES})
    case = _case(arguments, priced)
    unit = UNIT_SECONDS if priced.unit == "units" else 1.0
    blocks = []
    for done, name in enumerate(names, start=1):
        blocks.append(judged(name, case, None if arguments.no_record else unit))
        if moves() and not arguments.no_record:
            print(f"\rrecorded {done}/{len(names)} ", end="\r", flush=True)
    if arguments.json:
        say(json.dumps(data(blocks, case), indent=2))
    elif arguments.markdown:
        say(markdown(blocks, case))
    else:
        say(table(blocks))
        notes = [_head(case), _LEGEND, *[_RECORDED] * _is_recorded(blocks)]
        say("\n" + textwrap.fill(" ".join(notes), width()))


def _case(arguments: argparse.Namespace, priced: Prices) -> Case:
    """The sizes and prices of the command line."""
    p, m = arguments.ranks or RANKS, arguments.microbatches or MICROBATCHES
    v, of = arguments.stages_per_rank or STAGES_PER_RANK, priced.values
    fiw = of["forward"], of["backward_input"], of["backward_weight"]
    return Case(p, m, v, *fiw, latency=of["latency"], overlapped=of["overlapped"])


def judged(name: str, case: Case, unit: float | None = None) -> Block:
    """One schedule's formulas in a case; recorded too if a ``unit`` of it has seconds."""
    try:
        rows = judge(name, case)
    except ScheduleError as error:
        return Block(name, refused=" ".join(str(error).split()))
    shown = recorded(name, case, unit) if unit else {}
    return Block(name, tuple(Line(row, shown.get(row.claim.figure)) for row in rows))


def recorded(name: str, case: Case, unit: float) -> dict[Figure, float]:
    """What real ranks show, paced to the case's prices: times in the case's unit."""
    import_engine()
    from pipelab.cli.recordings import paced

    schedule, case = built(name, case)
    trace = paced(schedule, cost_of(case.times(unit)))
    idle = {f: figure_of(trace, schedule, f) / unit for f in (Figure.IDLE, Figure.SPAN)}
    return idle | {Figure.PEAK: figure_of(trace, order_of(trace), Figure.PEAK)}


def table(blocks: Sequence[Block]) -> str:
    """One block for each schedule: the figures of a formula, below them when it holds."""
    heads = ("", "formula", "says", "simulated", "recorded", "here it")
    rows: list[tuple[str, ...]] = [heads]
    for block in blocks:
        rows += [(title_of(block.name), *[""] * 5)]
        rows += [(f"  {cells[0]}", *cells[1:]) for cells in map(_cells, block.lines)]
    if not _is_recorded(blocks):
        rows = [(*row[:4], row[5]) for row in rows]
    lines = iter(table_text(rows, left=2).splitlines())
    out = [next(lines)]
    for block in blocks:
        out += ["", next(lines)]
        for line in block.lines:
            out += [next(lines), f"    {line.condition}"]
        out += [f"  {line}" for line in textwrap.wrap(block.refused, width() - 2)]
    return "\n".join(out)


def markdown(blocks: Sequence[Block], case: Case) -> str:
    """The same as a table of Markdown, one row for each formula."""
    heads = "schedule", "figure", "formula", "holds", "says", "simulated", "recorded", "here it"
    rows: list[tuple[str, ...]] = [heads, ("---",) * len(heads)]
    for block in blocks:
        title = title_of(block.name)
        for line in block.lines:
            figure, formula, *rest = _cells(line)
            rows.append((title, figure, f"`{formula}`", line.condition, *rest))
        rows += [(title, block.refused, *[""] * 6)] * bool(block.refused)
    return f"{_head(case)}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _is_recorded(blocks: Sequence[Block]) -> bool:
    return any(line.recorded is not None for block in blocks for line in block.lines)


def _cells(line: Line) -> tuple[str, ...]:
    recorded = "" if line.recorded is None else f"{line.recorded:.3g}"
    judged = line.judged
    figures = f"{judged.formula:.4g}", f"{judged.simulated:.4g}", recorded
    return _WORDS[judged.claim.figure], judged.claim.text, *figures, line.outcome


def _head(case: Case) -> str:
    overlapped = f", F&B {case.overlapped:g}" if case.overlapped else ""
    latency = f", {case.latency:g} for each message" if case.latency else ""
    sizes = f"{number(case.p, 'rank')}, {number(case.m, 'microbatch')}"
    return (
        f"{sizes}; F {case.F:g}, I {case.I:g}, W {case.W:g} for a rank's whole slice of the "
        f"model{overlapped}{latency}."
    )


def data(blocks: Sequence[Block], case: Case) -> dict[str, object]:
    """The same for programs; times in the unit of the prices that were given."""
    rows = [
        {
            "schedule": block.name,
            "figure": line.judged.claim.figure.value,
            "formula": line.judged.claim.text,
            "condition": line.judged.claim.condition,
            "source": line.judged.claim.source,
            "applies": line.judged.applies,
            "value": line.judged.formula,
            "simulated": line.judged.simulated,
            "recorded": line.recorded,
        }
        for block in blocks
        for line in block.lines
    ]
    refused = {block.name: block.refused for block in blocks if block.refused}
    return {"case": case._asdict(), "formulas": rows, "refused": refused}

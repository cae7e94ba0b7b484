"""``pipelab compare``: one schedule predicted, run by pipelab, and run by PyTorch's own engine.

Both engines stay up and take their steps in turns, so that other programs slow both alike.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from pipelab.cli import console, folder, show
from pipelab.cli.console import CommandError, ProgressLine, say, width
from pipelab.cli.prices import Amount, prices
from pipelab.plots.terminal import timeline_text
from pipelab.schedules import Schedule
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace
from pipelab.trace import compare as differences
from pipelab.words import number, time_text

WARMUP = 3  # steps of each engine that do not count
CONTEXT, ROWS_PER_MICROBATCH = 64, 4  # of a tiny GPT's batches


class Turns(NamedTuple):
    """The traces of all counted steps, of both engines, in the order in which they ran."""

    ours: list[Trace]
    torchs: list[Trace]

    @property
    def ratios(self) -> list[float]:
        """Torch's duration over ours, turn by turn."""
        return [b.duration / a.duration for a, b in zip(self.ours, self.torchs, strict=True)]


def compare(arguments: argparse.Namespace) -> int:
    """Measure, print, save; returns the exit code."""
    show.check_options([arguments.schedule], arguments)
    schedule = show.load_alone(arguments.schedule, arguments).compute
    output, columns = folder.writable(arguments.output), arguments.width or width()
    pace = pace_of(arguments.pace, schedule)
    turns = measure(schedule, arguments.steps, pace)
    ours, torchs = typical(turns.ours), typical(turns.torchs)
    predicted = simulate(schedule, pace or Cost.from_trace(ours))
    say("\n".join(timelines({"predicted": predicted, "pipelab": ours, "torch": torchs}, columns)))
    say("\n" + summary(turns, predicted.duration))
    say(f"\nWhere the time goes\n\n{differences(ours, torchs)}")
    _save(output, predicted, ours, torchs)
    return 0


def pace_of(forward: Amount | None, schedule: Schedule) -> Cost | None:
    """A device that takes so long for F of a rank's slice, and twice as long for B."""
    if forward is None:
        return None
    if forward.unit == "units" or forward.value == 0:
        raise CommandError(f"--pace {forward.value:g} is not the time of a device: write 10ms, say")
    return prices({"forward": forward}).cost(schedule.num_stages / schedule.num_ranks)


def measure(schedule: Schedule, steps: int, pace: Cost | None = None) -> Turns:
    """Let both engines train a tiny GPT, step by step in turns."""
    console.import_engine()
    import torch

    from pipelab.engine import Pipeline
    from pipelab.models import batches, next_byte_loss, tiny_gpt

    torch.manual_seed(0)
    model = tiny_gpt(blocks=max(4, schedule.num_stages), context=CONTEXT)
    stream = batches(schedule.num_microbatches * ROWS_PER_MICROBATCH, CONTEXT)
    line, turns = ProgressLine(WARMUP + steps), Turns([], [])
    with (
        Pipeline(model, schedule, loss=next_byte_loss, pace=pace) as ours,
        Pipeline(model, schedule, loss=next_byte_loss, pace=pace, worker="torch") as torchs,
    ):
        for step in range(1, WARMUP + steps + 1):
            batch = next(stream)
            pairs: list[tuple[Pipeline, list[Trace]]] = [(ours, turns.ours), (torchs, turns.torchs)]
            for pipeline, traces in pairs if step % 2 else pairs[::-1]:
                trace = pipeline.step(*batch).trace
                if step > WARMUP:
                    traces.append(trace)
            line.show(step, f"turn {step}/{WARMUP + steps}")
    return turns


def typical(traces: Sequence[Trace]) -> Trace:
    """The one of median duration."""
    return sorted(traces, key=lambda trace: trace.duration)[len(traces) // 2]


def timelines(traces: dict[str, Trace], columns: int) -> list[str]:
    """One below the other, a second as wide in each of them."""
    longest = max(trace.duration for trace in traces.values())
    margin = 10  # columns of a timeline that are no time
    lines = []
    for name, trace in traces.items():
        room = round((columns - margin) * trace.duration / longest)
        lines += [f"\n{name}", timeline_text(trace, max(40, margin + room))]
    return lines


def summary(turns: Turns, predicted: float) -> str:
    """All turns in words, and what too few cores have to do with it."""
    from pipelab.engine.rank.affinity import cores

    paced = turns.ours[0].setting.paced
    at = "the set pace" if paced else "what pipelab's actions took here"
    lines = [f"predicted  {time_text(predicted)}, at {at}"]
    for name, traces in (("pipelab", turns.ours), ("torch", turns.torchs)):
        times = sorted(trace.duration for trace in traces)
        low, high = time_text(times[0]), time_text(times[-1])
        lines.append(f"{name:<9}  {time_text(median(times))} (from {low} to {high})")
    ratios = turns.ratios
    lines.append(
        f"torch / pipelab, turn by turn: {median(ratios):.2f} (from {min(ratios):.2f} to "
        f"{max(ratios):.2f}, {number(len(ratios), 'turn')})"
    )
    ranks = turns.ours[0].num_ranks
    if paced:
        lines.append(
            "Both engines ran for real, but each action lasts as long as it would on a device of\n"
            "that speed: what differs is what they do between actions."
        )
    elif ranks > cores():
        lines.append(
            f"{ranks} ranks share {number(cores(), 'core')} here: both engines wait for a core,\n"
            "as no rank with its own device would. The prediction has a device for each rank, at\n"
            "prices measured while ranks shared cores: this machine may be slower."
        )
    return "\n".join(lines)


def _save(output: Path, predicted: Trace, ours: Trace, torchs: Trace) -> None:
    from pipelab.plots import plot_compare, plot_timeline

    paths = folder.save(output, "-predicted", predicted, plot_compare(predicted, ours))
    paths += folder.save(output, "-pipelab", ours, plot_timeline(ours))
    paths += folder.save(output, "-torch", torchs, plot_compare(ours, torchs))
    say(f"\nFiles in {output}: " + ", ".join(path.name for path in paths))

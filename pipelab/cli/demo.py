"""``pipelab demo``: four real ranks train a tiny GPT on real English, and one step is shown.

What it records stands in ``recordings``; here is what it says about that: timelines, bubbles
beside the formula, bytes.
"""

import argparse
import math
import statistics
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pipelab.action import Kind
from pipelab.cli import console
from pipelab.cli.console import ProgressLine, save, say, width, writable
from pipelab.plots.terminal import timeline_text
from pipelab.trace import Memory, Trace, expected_bubble_fraction
from pipelab.words import bytes_text, number, percent, table_text, time_text

if TYPE_CHECKING:
    from pipelab.cli.recordings import Training

_HEADS = ("", "parameters", "gradients", "optimizer", "activations", "together")


def demo(arguments: argparse.Namespace) -> None:
    """Train, record, show, save. Raises CommandError before any work if it could not save."""
    output = writable(arguments.output)
    say("pipelab demo: a tiny GPT learns English on a pipeline of real processes")
    console.import_engine()
    from pipelab.cli.recordings import Training, pace_above

    training = Training(arguments.ranks, arguments.microbatches)
    unpaced = _train(training, arguments)
    _show_unpaced(unpaced)
    paced = training.paced(pace_above(unpaced))
    _show_paced(paced)
    _show_memory(paced, training.one_process())
    _save(output, paced, unpaced)
    say("\nNext: pipelab lab    opens the first lesson, where you change ranks,")
    say("                     microbatches and schedule, and see it run again.")


def _train(training: "Training", arguments: argparse.Namespace) -> Trace:
    """Train under one progress line; returns the trace of the last step."""
    stages = f"{number(arguments.ranks, 'stage')} on {number(arguments.ranks, 'rank')}"
    _paragraph(
        f"{training.num_parameters:,} parameters in {stages}, schedule {training.schedule.name}, "
        f"{number(arguments.microbatches, 'microbatch')} a batch; bytes of Python's own reference"
    )
    line = ProgressLine(arguments.steps)
    digits = len(str(arguments.steps))
    losses = []
    start = time.monotonic()
    with training.unpaced() as pipeline:
        up = time_text(time.monotonic() - start)
        say(f"{number(arguments.ranks, 'rank')} up and joined after {up}")
        start = time.monotonic()
        for step in range(1, arguments.steps + 1):
            result = pipeline.step(*next(training.batches))
            losses.append(result.loss)
            rate = f"{step / (time.monotonic() - start):.1f} steps/s"
            text = f"step {step:>{digits}}/{arguments.steps}   loss {result.loss:.3f}   {rate}"
            line.show(step, text)
    guess = f"blind guessing costs ln 256 = {math.log(256):.2f} nats a byte"
    _paragraph(f"loss {losses[0]:.2f} at the start, {losses[-1]:.2f} at the end; {guess}")
    return result.trace


def _save(output: Path, paced: Trace, unpaced: Trace) -> None:
    """Both recordings as picture, as trace and as Perfetto file."""
    from pipelab.plots import plot_timeline

    _heading(f"Files in {output}")
    for name, suffix, trace in (("paced", "", paced), ("unpaced", "-unpaced", unpaced)):
        paths = save(output, suffix, trace, plot_timeline(trace))
        say(f"{name:<9}" + "  ".join(path.name for path in paths))
    _paragraph(
        ".png is the picture; .json the trace, for Trace.load(path) in Python; .perfetto.json the "
        "same for https://ui.perfetto.dev"
    )


def _heading(text: str) -> None:
    """An empty line, a title, and a rule under it."""
    say(f"\n{text}\n{'─' * min(len(text), width())}")


def _paragraph(text: str) -> None:
    """Words, broken to the width of the terminal."""
    say(textwrap.fill(text, width()))


def _show_unpaced(trace: Trace) -> None:
    """One step as it came, and why its bubble is no textbook's."""
    _heading("The last step, as fast as this machine goes")
    _show_timeline(trace)
    ranks, cpus = trace.setting.ranks, trace.setting.cpus
    forward = statistics.median(e.end - e.start for e in trace.events if e.kind is Kind.F)
    here = (
        f"Here {number(ranks, 'rank')} share {number(cpus, 'core')}: a rank that could go on waits "
        f"for a core, so this picture shows the machine as much as the schedule."
        if cpus < ranks
        else f"Here an F takes {time_text(forward)}: beside so little work, each of them counts."
    )
    _paragraph(f"The formula counts on a core for each rank, equal stages, free messages. {here}")


def _show_paced(trace: Trace) -> None:
    """One paced step: the textbook's picture, on real ranks."""
    _heading("The textbook's picture, recorded: one paced step")
    _paragraph(
        f"Paced: real processes, tensors and messages; each action is padded to a set time "
        f"({trace.setting.paced}), as on a device of that speed."
    )
    _show_timeline(trace)


def _show_timeline(trace: Trace) -> None:
    """The step in letters; measured bubble beside the formula."""
    say(timeline_text(trace, width()))
    p, m = trace.setting.ranks, trace.setting.microbatches
    formula = f"(p−1)/(m+p−1) = {p - 1}/{m + p - 1} = "
    formula += percent(expected_bubble_fraction(p, m), 1)
    say(f"bubble fraction: measured {percent(trace.bubble_fraction, 1)}, formula {formula}")


def _show_memory(trace: Trace, alone: Trace) -> None:
    """Bytes on each rank, beside one process that does it all."""
    _heading("Bytes on each rank, and in one process that takes the whole batch at once")
    ranks, (one,) = _bytes(trace), _bytes(alone)
    names = [*(f"rank {rank}" for rank in range(len(ranks))), "one process"]
    rows = [
        [name, *map(bytes_text, (*row, sum(row)))]
        for name, row in zip(names, [*ranks, one], strict=True)
    ]
    say(table_text([_HEADS, *rows]))
    m = trace.setting.microbatches
    fullest = max(range(len(ranks)), key=lambda rank: sum(ranks[rank]))
    _paragraph(
        f"Activations at their peak, as autograd saves them. The fullest rank, {fullest}, holds "
        f"{percent(sum(ranks[fullest]) / sum(one))} of what the one process holds: its own stage "
        f"alone, with {min(m, trace.num_ranks - fullest)} of {m} microbatches in flight."
    )


def _bytes(trace: Trace) -> list[tuple[int, int, int, int]]:
    """For each rank: parameters, gradients, optimizer, peak activations."""
    held = trace.memory or (Memory(),) * trace.num_ranks
    return [(*row, peak) for row, peak in zip(held, trace.peak_activation_bytes, strict=True)]

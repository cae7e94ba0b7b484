"""What the demo says about its traces: timelines, bubbles beside the formula, bytes."""

import statistics
import textwrap

from pipelab.action import Kind
from pipelab.cli.terminal import say, width
from pipelab.plots.terminal import timeline_text
from pipelab.trace import Memory, Trace, expected_bubble_fraction
from pipelab.words import bytes_text, number, percent, time_text

_HEADS = ("parameters", "gradients", "optimizer", "activations", "together")


def heading(text: str) -> None:
    """An empty line, a title, and a rule under it."""
    say(f"\n{text}\n{'─' * min(len(text), width())}")


def paragraph(text: str) -> None:
    """Words, broken to the width of the terminal."""
    say(textwrap.fill(text, width()))


def unpaced(trace: Trace) -> None:
    """One step as it came, and why its bubble is no textbook's."""
    heading("The last step, as fast as this machine goes")
    _timeline(trace)
    ranks, cpus = trace.setting.ranks, trace.setting.cpus
    forward = statistics.median(e.end - e.start for e in trace.events if e.kind is Kind.F)
    here = (
        f"Here {number(ranks, 'rank')} share {number(cpus, 'core')}: a rank that could go on waits "
        f"for a core, so this picture shows the machine as much as the schedule."
        if cpus < ranks
        else f"Here an F takes {time_text(forward)}, and beside that all of them weigh."
    )
    paragraph(f"The formula counts on a core for each rank, equal stages, free messages. {here}")


def paced(trace: Trace) -> None:
    """One paced step: the textbook's picture, on real ranks."""
    heading("The textbook's picture, recorded: one paced step")
    paragraph(
        f"Paced: real processes, tensors and messages; each action is padded to a set time "
        f"({trace.setting.paced}), as on a device of that speed."
    )
    _timeline(trace)


def _timeline(trace: Trace) -> None:
    """The step in letters; measured bubble beside the formula."""
    say(timeline_text(trace, width()))
    p, m = trace.setting.ranks, trace.setting.microbatches
    formula = f"(p−1)/(m+p−1) = {p - 1}/{m + p - 1} = "
    formula += percent(expected_bubble_fraction(p, m), 1)
    say(f"bubble fraction: measured {percent(trace.bubble_fraction, 1)}, formula {formula}")


def memory(trace: Trace, alone: Trace) -> None:
    """Bytes on each rank, beside one process that does it all."""
    heading("Bytes on each rank, and in one process that takes the whole batch at once")
    ranks, (one,) = _bytes(trace), _bytes(alone)
    names = [*(f"rank {rank}" for rank in range(len(ranks))), "one process"]
    say(" " * len("one process") + "".join(head.rjust(13) for head in _HEADS))
    for name, row in zip(names, [*ranks, one], strict=True):
        cells = "".join(bytes_text(count).rjust(13) for count in (*row, sum(row)))
        say(name.ljust(len("one process")) + cells)
    m = trace.setting.microbatches
    fullest = max(range(len(ranks)), key=lambda rank: sum(ranks[rank]))
    paragraph(
        f"Activations at their peak, as autograd saves them. The fullest rank, {fullest}, holds "
        f"{percent(sum(ranks[fullest]) / sum(one))} of what the one process holds: its own stage "
        f"alone, with {min(m, trace.num_ranks - fullest)} of {m} microbatches in flight."
    )


def _bytes(trace: Trace) -> list[tuple[int, int, int, int]]:
    """For each rank: parameters, gradients, optimizer, peak activations."""
    held = trace.memory or (Memory(),) * trace.num_ranks
    return [(*row, peak) for row, peak in zip(held, trace.peak_activation_bytes, strict=True)]

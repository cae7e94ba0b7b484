"""``pipelab compare``: one schedule predicted, run by pipelab, and run by PyTorch's own engine.

Both engines stay up and take their steps in turns, so that other programs slow both alike.
"""

import argparse
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from pipelab.cli import console, show
from pipelab.cli.console import CommandError, save, say, width, writable
from pipelab.cli.prices import Amount, prices
from pipelab.plots.terminal import timeline_text
from pipelab.schedules import Schedule
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace
from pipelab.trace import compare as differences
from pipelab.words import number, time_text

if TYPE_CHECKING:
    from pipelab.cli.recordings import Turns


def compare(arguments: argparse.Namespace) -> int:
    """Measure, print, save; returns the exit code."""
    show.check_options([arguments.schedule], arguments)
    schedule = show.load_alone(arguments.schedule, arguments).compute
    output = writable(arguments.output)
    pace = pace_of(arguments.pace, schedule)
    console.import_engine()
    from pipelab.cli.recordings import take_turns, typical

    turns = take_turns(schedule, arguments.steps, pace)
    ours, torchs = typical(turns.ours), typical(turns.torchs)
    predicted = simulate(schedule, pace or Cost.from_trace(ours))
    traces = {"predicted": predicted, "pipelab": ours, "torch": torchs}
    say("\n".join(timelines(traces, arguments.width or width())))
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


def timelines(traces: dict[str, Trace], columns: int) -> list[str]:
    """One below the other, a second as wide in each of them."""
    longest = max(trace.duration for trace in traces.values())
    margin = 10  # columns of a timeline that are no time
    lines = []
    for name, trace in traces.items():
        room = round((columns - margin) * trace.duration / longest)
        lines += [f"\n{name}", timeline_text(trace, max(40, margin + room))]
    return lines


def summary(turns: "Turns", predicted: float) -> str:
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

    paths = save(output, "-predicted", predicted, plot_compare(predicted, ours))
    paths += save(output, "-pipelab", ours, plot_timeline(ours))
    paths += save(output, "-torch", torchs, plot_compare(ours, torchs))
    say(f"\nFiles in {output}: " + ", ".join(path.name for path in paths))

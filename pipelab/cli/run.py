"""``pipelab run``: a schedule recorded on real ranks of this machine, beside its prediction.

It takes a schedule's name, a CSV file, or the playground's address. By default each action is paced
to a set time, as on a device of that speed; ``--unpaced`` records what this machine really takes.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

from pipelab.cli import console, show
from pipelab.cli.compare_engines import timelines
from pipelab.cli.console import CommandError, save, say, width, writable
from pipelab.cli.prices import PRICES, Amount, prices
from pipelab.files import replace_text
from pipelab.plots.terminal import bubble_text
from pipelab.schedules import Schedule, validate
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace
from pipelab.trace import compare as differences
from pipelab.widgets.page import timeline_page
from pipelab.widgets.playground_answers import cost_of, wanted
from pipelab.widgets.playground_link import is_link, request_of
from pipelab.words import time_text

USUAL = Amount(10.0, "ms")  # of F, I and W, as on the playground


class Job(NamedTuple):
    """What is to be recorded; no cost: as fast as the machine goes."""

    schedule: Schedule
    cost: Cost | None


def run(arguments: argparse.Namespace) -> None:
    """Record, print, save. Raises CommandError or ScheduleError before any process starts."""
    job = job_of(arguments)
    output = writable(arguments.output)
    console.import_engine()
    from pipelab.cli.recordings import record

    trace = record(job.schedule, job.cost, arguments.steps)
    predicted = simulate(job.schedule, job.cost or Cost.from_trace(trace))
    say("\n".join(timelines({"predicted": predicted, "recorded": trace}, _columns(arguments))))
    say()
    for name, one in (("predicted", predicted), ("recorded", trace)):
        say(f"{name:<9}  {time_text(one.duration)}; {bubble_text(one)}")
    if trace.warning:
        say(trace.warning)
    if job.cost is None:
        say("The prediction has a device for each rank, at what the actions took here.")
    say(f"\nWhere they differ: a is predicted, b is recorded\n\n{differences(predicted, trace)}")
    _save(output, predicted, trace)


def job_of(arguments: argparse.Namespace) -> Job:
    """The schedule and the pace that were asked for.

    Raises:
        CommandError: options that say the same twice, or times that are none.
        ScheduleError: the schedule cannot run.
    """
    name = arguments.schedule
    given = {price.name: getattr(arguments, price.name) for price in PRICES}
    times = [f"--{price.replace('_', '-')}" for price, amount in given.items() if amount]
    if arguments.unpaced and times:
        raise CommandError(f"--unpaced sets no times: leave {', '.join(times)} out")
    if is_link(name) and not Path(name).exists():
        return _of_link(arguments, times)
    show.check_options([name], arguments)
    schedule = show.load_alone(name, arguments).compute
    if arguments.unpaced:
        return Job(schedule, None)
    priced = prices({"forward": USUAL} | {n: a for n, a in given.items() if a})
    if priced.unit == "units":
        raise CommandError("ranks are paced in seconds: give each time a unit, such as 10ms")
    return Job(schedule, priced.cost(schedule.num_stages / schedule.num_ranks))


def _of_link(arguments: argparse.Namespace, times: list[str]) -> Job:
    """What the playground shows at an address."""
    sizes = {
        "-p": arguments.ranks, "-m": arguments.microbatches, "-v": arguments.stages_per_rank
    }  # fmt: skip
    if twice := [flag for flag, value in sizes.items() if value] + times:
        raise CommandError(f"the playground's address says it: leave {', '.join(twice)} out")
    request = request_of(arguments.schedule)
    schedule = wanted(request)
    validate(schedule)
    return Job(schedule, None if arguments.unpaced else cost_of(request, schedule))


def _columns(arguments: argparse.Namespace) -> int:
    return arguments.width or width()


def _save(output: Path, predicted: Trace, trace: Trace) -> None:
    """The recording as trace, Perfetto file and picture, and a page that plays both."""
    from pipelab.plots import plot_compare

    paths = save(output, "", trace, plot_compare(predicted, trace))
    page = output / "timeline.html"
    try:
        replace_text(page, timeline_page(trace, predicted))
    except OSError as error:
        raise CommandError(f"cannot write {page} ({error.strerror or error})") from None
    say(f"\nFiles in {output}: " + ", ".join(path.name for path in (*paths, page)))
    say(f"Open {page} in a browser to play the recording with its prediction behind it.")

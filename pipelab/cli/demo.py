"""``pipelab demo``: four real ranks train a tiny GPT on real English, and one step is shown."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipelab.cli import folder, report, signals
from pipelab.cli.terminal import ProgressLine, say
from pipelab.words import number, time_text

if TYPE_CHECKING:
    from pipelab.cli.recordings import Lesson
    from pipelab.trace import Trace


class Setup(NamedTuple):
    """What the command line asked for."""

    steps: int
    ranks: int
    microbatches: int
    output: str


def demo(setup: Setup) -> None:
    """Train, record, show, save. Raises CommandError before any work if it could not save."""
    output = folder.writable(setup.output)
    say("pipelab demo: a tiny GPT learns English on a pipeline of real processes")
    signals.import_engine()
    from pipelab.cli.recordings import Lesson, pace_above

    lesson = Lesson(setup.ranks, setup.microbatches)
    unpaced = _train(lesson, setup)
    report.unpaced(unpaced)
    paced = lesson.paced(pace_above(unpaced))
    report.paced(paced)
    report.memory(paced, lesson.one_process())
    _save(output, paced, unpaced)
    say("\nNext: pipelab lab    opens the first lesson, where you change ranks,")
    say("                     microbatches and schedule, and see it run again.")


def _train(lesson: "Lesson", setup: Setup) -> "Trace":
    """Train under one progress line; returns the trace of the last step."""
    stages = f"{number(setup.ranks, 'stage')} on {number(setup.ranks, 'rank')}"
    report.paragraph(
        f"{lesson.num_parameters:,} parameters in {stages}, schedule {lesson.schedule.name}, "
        f"{number(setup.microbatches, 'microbatch')} a batch; bytes of Python's own reference"
    )
    line = ProgressLine(setup.steps)
    digits = len(str(setup.steps))

    def launched(seconds: float) -> None:
        say(f"{number(setup.ranks, 'rank')} up and joined after {time_text(seconds)}")

    def show(step: int, loss: float, seconds: float) -> None:
        rate = f"{step / seconds:.1f} steps/s"
        line.show(step, f"step {step:>{digits}}/{setup.steps}   loss {loss:.3f}   {rate}")

    training = lesson.train(setup.steps, launched, show)
    first, last = training.losses[0], training.losses[-1]
    guess = f"blind guessing costs ln 256 = {math.log(256):.2f} nats a byte"
    report.paragraph(f"loss {first:.2f} at the start, {last:.2f} at the end; {guess}")
    return training.trace


def _save(output: Path, paced: "Trace", unpaced: "Trace") -> None:
    """Both recordings as picture, as trace and as Perfetto file."""
    from pipelab.plots import plot_timeline

    report.heading(f"Files in {output}")
    for name, suffix, trace in (("paced", "", paced), ("unpaced", "-unpaced", unpaced)):
        paths = folder.save(output, suffix, trace, plot_timeline(trace))
        say(f"{name:<9}" + "  ".join(path.name for path in paths))
    report.paragraph(
        ".png is the picture; .json the trace, for Trace.load(path) in Python; .perfetto.json the "
        "same for https://ui.perfetto.dev"
    )

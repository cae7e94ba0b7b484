"""The command line: every command and its options; arguments in, exit code out.

0: done. 1: refused or failed, with the reason in words. 2: arguments that make no sense. 130:
ended by Ctrl-C.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NamedTuple

import pipelab
from pipelab.cli import console
from pipelab.cli.prices import PRICES, RULE, amount, lengths
from pipelab.errors import PipelabError, RankError
from pipelab.schedules.catalogue import BUILDERS

_DESCRIPTION = "Pipeline parallelism, understood by running it."
_EPILOG = "Start with `pipelab demo`; if something does not work, ask `pipelab doctor`."
_SIMULATE = f"{RULE} {{schedules}}"
_COMPARE = "Both engines train a tiny GPT, step by step in turns. {schedules}"
_RUN = (
    "Each action is paced to its time, 10ms where nothing is said, as on a device of that speed; a "
    "B takes I + W. Instead of a schedule's name, give a CSV file or, in quotation marks, the "
    "playground's address, from its # on. {schedules}"
)
_FORMULAS = f"{RULE} Schedules: {', '.join(BUILDERS)}."
_DEMO = "Takes under a minute, needs no GPU, downloads nothing."
_LAB = "Ctrl-C in this terminal ends it."
_PROGRESS = "Markdown, from a file on this machine; nothing leaves it."
_OPEN = (
    "Reads ndtimeline's files (veScale, StragglerAnalysis), torch.profiler's of "
    "torch.distributed.pipelining, Megatron's OpenTelemetry spans and pipelab's own, plain or gzip."
)
_EDITION = "Made from the teacher's notebooks; run the learner's once before you hand them out."
_SITE = 'Needs the extra "site". Any static host will do, under any path; a disk, too.'
_DOCTOR = "Exit code 0: all is well; 1: something needs repair."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    Called without arguments it is the program itself, and takes over the program's signals too.
    """
    is_program = argv is None
    if is_program:
        console.leave_on_signals()
    console.prepare_streams()
    try:
        return _run(parse(argv))
    except PipelabError as error:
        _complain(error)
        return 1
    except KeyboardInterrupt:
        print("Stopped by Ctrl-C.", file=sys.stderr, flush=True)
        return 130
    except BrokenPipeError:  # who read our output has gone, as in `pipelab demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _complain(error: PipelabError) -> None:
    """The error in words, on stderr; what a rank saw follows its error, as far as it helps."""
    print(f"pipelab: {error}", file=sys.stderr)
    if isinstance(error, RankError) and error.details:
        print("\n".join(error.details.rstrip().splitlines()[-8:]), file=sys.stderr)
    sys.stderr.flush()


def _run(arguments: argparse.Namespace) -> int:
    """Load the command that was asked for, and carry it out."""
    module, function = arguments.run.split(".")
    code: int | None = getattr(import_module(f"pipelab.cli.{module}"), function)(arguments)
    return code or 0


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments; leaves with exit code 2 and a usage line if they make no sense."""
    arguments, unknown = parser().parse_known_args(argv)
    if unknown:
        arguments.refuse(f"unrecognized arguments: {' '.join(unknown)}")
    if arguments.command == "simulate":
        if arguments.best and arguments.schedules:
            names = " ".join(arguments.schedules)
            arguments.refuse(f"--best finds the schedule itself: leave {names} out")
        if arguments.best and arguments.stages_per_rank:
            arguments.refuse("--best searches schedules of one stage per rank: leave -v out")
        if arguments.memory_limit and not arguments.best:
            arguments.refuse("--memory-limit is for the search: add --best")
    return arguments


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    root = argparse.ArgumentParser("pipelab", description=_DESCRIPTION, epilog=_EPILOG)
    root.add_argument("--version", action="version", version=f"pipelab {pipelab.__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    schedules = (
        f"Schedules: {', '.join(BUILDERS)}; or a file of your own: one line per rank, tokens such "
        f"as 2F0 (stage 2, forward, microbatch 0) between commas."
    )
    for row in _COMMANDS:
        about = row.words[0].upper() + row.words[1:] + "."
        command = commands.add_parser(
            row.name,
            help=row.words,
            description=about,
            epilog=row.epilog.format(schedules=schedules),
        )
        command.set_defaults(run=row.run, refuse=command.error)
        if row.options:
            row.options(command)
    return root


def _demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--steps", type=_positive, default=60, metavar="N",
                      help="training steps (60)")  # fmt: skip
    demo.add_argument("--output", default="pipelab-demo", metavar="FOLDER",
                      help="where traces and pictures go (pipelab-demo)")  # fmt: skip
    demo.add_argument("--ranks", type=_positive, default=4, metavar="N",
                      help="processes, each with one stage of the model (4)")  # fmt: skip
    demo.add_argument("--microbatches", type=_positive, default=8, metavar="N",
                      help="parts that each batch is cut into (8)")  # fmt: skip


def _lab(lab: argparse.ArgumentParser) -> None:
    lab.add_argument("lesson", nargs="?", type=_number, default=0, metavar="NN",
                     help="number of the lesson (00)")  # fmt: skip
    lab.add_argument("--no-browser", action="store_true",
                     help="only print the address, open no browser")  # fmt: skip
    lab.add_argument("--port", type=_port, metavar="PORT", help="listen on this one (any free one)")


def _show(show: argparse.ArgumentParser) -> None:
    show.add_argument("schedule", metavar="SCHEDULE", help="a name or a CSV file, see below")
    _sizes(show)
    form = show.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true",
                      help="only the CSV, as torch.distributed.pipelining reads it")  # fmt: skip
    form.add_argument("--lowered", action="store_true",
                      help="each rank's row with its messages and optimizer steps")  # fmt: skip


def _record(command: argparse.ArgumentParser) -> None:
    command.add_argument("--schedule", default="1f1b", metavar="SCHEDULE",
                         help="a name, a CSV file or the playground's address (1f1b)")  # fmt: skip
    _sizes(command)
    _times(command)
    command.add_argument("--unpaced", action="store_true",
                         help="as fast as this machine goes, with a tiny GPT")  # fmt: skip
    command.add_argument("--steps", type=_positive, default=5, metavar="N",
                         help="steps, of which the best one is kept (5)")  # fmt: skip
    command.add_argument("--output", default="pipelab-run", metavar="FOLDER",
                         help="where trace, picture and page go (pipelab-run)")  # fmt: skip
    command.add_argument("--width", type=_positive, metavar="N",
                         help="columns of the longest timeline (the terminal's)")  # fmt: skip


def _simulate(simulate: argparse.ArgumentParser) -> None:
    simulate.add_argument("schedules", nargs="*", metavar="SCHEDULE",
                          help="one: its timeline; several: a table (all of them)")  # fmt: skip
    _sizes(simulate)
    _times(simulate)
    simulate.add_argument("--lengths", type=lengths, metavar="LIST",
                          help="of microbatches, such as 1,1,3,1 (all 1): F, I, W of each are "
                               "times its length")  # fmt: skip
    simulate.add_argument("--best", action="store_true",
                          help="search for the shortest schedule, and show the proof")  # fmt: skip
    simulate.add_argument("--memory-limit", type=_positive, metavar="N",
                          help="with --best: microbatches a rank may hold at once")  # fmt: skip
    simulate.add_argument("--width", type=_positive, metavar="N",
                          help="columns of the timeline, 40 or more (the terminal's)")  # fmt: skip
    simulate.add_argument("--json", action="store_true", help="the numbers, for programs")


def _open(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", nargs="+", metavar="FILE",
                         help="one for all ranks, one a rank, or a folder of them")  # fmt: skip
    command.add_argument("--step", type=_number, metavar="N",
                         help="show this step in detail (one of median duration)")  # fmt: skip
    command.add_argument("--replica", type=_number, metavar="N",
                         help="show this replica in detail (the slowest)")  # fmt: skip
    command.add_argument("--html", metavar="PAGE",
                         help="write a page that plays the step under its simulation")  # fmt: skip
    command.add_argument("--perfetto", metavar="JSON",
                         help="write the step for ui.perfetto.dev")  # fmt: skip
    command.add_argument("--width", type=_positive, metavar="N",
                         help="columns, 40 or more (the terminal's)")  # fmt: skip
    command.add_argument("--json", action="store_true", help="the figures, for programs")


def _formulas(formulas: argparse.ArgumentParser) -> None:
    formulas.add_argument("schedules", nargs="*", metavar="SCHEDULE",
                          help="names, see below (all of them)")  # fmt: skip
    _sizes(formulas)
    _times(formulas)
    formulas.add_argument("--no-record", action="store_true",
                          help="only simulate: no ranks, done at once")  # fmt: skip
    form = formulas.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the numbers, for programs")
    form.add_argument("--markdown", action="store_true", help="a table, for a page")


def _edition(edition: argparse.ArgumentParser) -> None:
    edition.add_argument("edition", choices=("learner", "teacher", "nbgrader"),
                         help="for whom")  # fmt: skip
    edition.add_argument("folder", metavar="FOLDER", help="where the notebooks go")
    edition.add_argument("--force", action="store_true",
                         help="also where a notebook differs, which gets another name")  # fmt: skip


def _site(site: argparse.ArgumentParser) -> None:
    site.add_argument("folder", metavar="OUT", help="where the pages go")
    form = site.add_mutually_exclusive_group()
    form.add_argument("--no-playground", action="store_true",
                      help="leave it out: it needs npm, which fetches Pyodide (14 MB)")  # fmt: skip
    form.add_argument("--pyodide", metavar="FOLDER",
                      help="the playground's runtime, where npm is not to fetch it")  # fmt: skip


def _progress(progress: argparse.ArgumentParser) -> None:
    progress.add_argument("place", nargs="?", metavar="PLACE",
                          help="a progress file, or a folder of them (yours)")  # fmt: skip
    progress.add_argument("--reset", nargs="?", const="all", metavar="LESSON",
                          help="forget your progress of one lesson, or of all")  # fmt: skip


def _compare(command: argparse.ArgumentParser) -> None:
    command.add_argument("schedule", nargs="?", default="1f1b", metavar="SCHEDULE",
                         help="a name or a CSV file, see below (1f1b)")  # fmt: skip
    _sizes(command)
    command.add_argument("--steps", type=_positive, default=15, metavar="N",
                         help="turns that count (15)")  # fmt: skip
    command.add_argument("--pace", type=amount, metavar="TIME",
                         help="as on devices that take this long for F, twice for B")  # fmt: skip
    command.add_argument("--output", default="pipelab-compare", metavar="FOLDER",
                         help="where pictures and traces go (pipelab-compare)")  # fmt: skip
    command.add_argument("--width", type=_positive, metavar="N",
                         help="columns of the longest timeline (the terminal's)")  # fmt: skip


def _sizes(command: argparse.ArgumentParser) -> None:
    """A file has its own sizes: these are for schedules by name."""
    command.add_argument("-p", "--ranks", type=_positive, metavar="N", help="ranks (4)")
    command.add_argument("-m", "--microbatches", type=_positive, metavar="N",
                         help="microbatches (8)")  # fmt: skip
    command.add_argument("-v", "--stages-per-rank", type=_positive, metavar="N",
                         help="stages per rank, where there is a choice (2)")  # fmt: skip


def _times(command: argparse.ArgumentParser) -> None:
    """What actions and messages cost."""
    for price in PRICES:
        flag = "--" + price.name.replace("_", "-")
        command.add_argument(flag, type=amount, metavar="TIME", help=price.words)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


def _positive(text: str) -> int:
    if (value := _number(text)) < 1:
        raise argparse.ArgumentTypeError(f"{value} is too few: at least 1")
    return value


def _port(text: str) -> int:
    if not 1 <= (value := _number(text)) <= 65535:
        raise argparse.ArgumentTypeError(f"{value} is not a port: 1 to 65535")
    return value


class _Command(NamedTuple):
    """A command: ``run`` is the module of ``pipelab.cli`` and the function that carry it out."""

    name: str
    run: str
    words: str
    epilog: str
    options: Callable[[argparse.ArgumentParser], None] | None = None


_COMMANDS = (
    _Command("demo", "demo.demo", "train a tiny GPT on real ranks and see one step", _DEMO, _demo),
    _Command("lab", "course.lab", "open the lessons in JupyterLab, on this machine only",
             _LAB, _lab),
    _Command("show", "show.show", "print a schedule: who runs what, in which order",
             "{schedules}", _show),
    _Command("simulate", "predict.simulate", "predict a timeline, or compare all schedules",
             _SIMULATE, _simulate),
    _Command("run", "run.run", "record a schedule on real ranks, beside its prediction",
             _RUN, _record),
    _Command("open", "open_trace.open_trace",
             "open somebody's recorded pipeline, and say why its bubble is there", _OPEN, _open),
    _Command("formulas", "formula_table.formulas",
             "each schedule's formulas, beside what simulator and real ranks show",
             _FORMULAS, _formulas),
    _Command("progress", "course.progress", "print what you have predicted and solved", _PROGRESS,
             _progress),
    _Command("edition", "course.edition", "write the course for learners, teachers or nbgrader",
             _EDITION, _edition),
    _Command("compare", "compare_engines.compare",
             "predicted, pipelab and PyTorch's engine, side by side", _COMPARE, _compare),
    _Command("site", "build_site.site", "write the course as a static site", _SITE, _site),
    _Command("doctor", "doctor.doctor", "say what this machine can do, and what is wrong", _DOCTOR),
)  # fmt: skip

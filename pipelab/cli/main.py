"""The command line: arguments in, exit code out.

0: done. 1: refused or failed, with the reason in words. 2: arguments that make no sense. 130:
ended by Ctrl-C.
"""

import argparse
import os
import sys
from collections.abc import Sequence

import pipelab
from pipelab.cli import signals
from pipelab.cli.terminal import prepare_streams
from pipelab.errors import PipelabError, RankError

_DESCRIPTION = "Pipeline parallelism, understood by running it."
_EPILOG = "Start with `pipelab demo`; if something does not work, ask `pipelab doctor`."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    Called without arguments it is the program itself, and takes over the program's signals too.
    """
    is_program = argv is None
    if is_program:
        signals.leave_on_signals()
    prepare_streams()
    try:
        return _run(parser().parse_args(argv))
    except PipelabError as error:
        _complain(error)
        return 1
    except KeyboardInterrupt:
        print("Stopped by Ctrl-C.", file=sys.stderr, flush=True)
        return 130
    except BrokenPipeError:  # who read our output has gone, as in `pipelab demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        if is_program:
            signals.end_fork_server()


def _complain(error: PipelabError) -> None:
    """The error in words, on stderr; what a rank saw follows its error, as far as it helps."""
    print(f"pipelab: {error}", file=sys.stderr)
    if isinstance(error, RankError) and error.details:
        print("\n".join(error.details.rstrip().splitlines()[-8:]), file=sys.stderr)
    sys.stderr.flush()


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    root = argparse.ArgumentParser("pipelab", description=_DESCRIPTION, epilog=_EPILOG)
    root.add_argument("--version", action="version", version=f"pipelab {pipelab.__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="train a tiny GPT on real ranks and see one step")
    demo.add_argument("--steps", type=_positive, default=60, help="training steps (60)")
    demo.add_argument("--output", default="pipelab-demo", metavar="FOLDER",
                      help="where trace and picture go (pipelab-demo)")  # fmt: skip
    demo.add_argument("--ranks", type=_positive, default=4, help="processes, one stage each (4)")
    demo.add_argument("--microbatches", type=_positive, default=8, help="per batch (8)")

    lab = commands.add_parser("lab", help="open the lessons in JupyterLab, on this machine only")
    lab.add_argument("lesson", nargs="?", type=_number, default=0, metavar="NN",
                     help="number of the lesson (00)")  # fmt: skip
    lab.add_argument("--no-browser", action="store_true", help="print the address instead")
    lab.add_argument("--port", type=_port, help="a port of your choice (any free one)")

    commands.add_parser("doctor", help="say what this machine can do, and what is wrong")
    return root


def _run(arguments: argparse.Namespace) -> int:
    """Each command is loaded when it is asked for."""
    match arguments.command:
        case "demo":
            from pipelab.cli.demo import Setup, demo

            demo(Setup(arguments.steps, arguments.ranks, arguments.microbatches, arguments.output))
            return 0
        case "lab":
            from pipelab.cli.lab import lab

            return lab(arguments.lesson, browser=not arguments.no_browser, port=arguments.port)
        case _:
            from pipelab.cli.doctor import doctor

            return doctor()


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return int(text)


def _positive(text: str) -> int:
    if (value := _number(text)) < 1:
        raise argparse.ArgumentTypeError(f"{value} is too few: at least 1")
    return value


def _port(text: str) -> int:
    if not 1 <= (value := _number(text)) <= 65535:
        raise argparse.ArgumentTypeError(f"{value} is no port: 1 to 65535")
    return value

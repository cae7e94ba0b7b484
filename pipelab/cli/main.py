"""The command line: arguments in, exit code out.

0: done. 1: refused or failed, with the reason in words. 2: arguments that make no sense. 130:
ended by Ctrl-C.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from pipelab.cli import signals
from pipelab.cli.options import parse
from pipelab.cli.terminal import prepare_streams
from pipelab.errors import PipelabError, RankError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    Called without arguments it is the program itself, and takes over the program's signals too.
    """
    is_program = argv is None
    if is_program:
        signals.leave_on_signals()
    prepare_streams()
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
    finally:
        if is_program:
            signals.end_fork_server()


def _complain(error: PipelabError) -> None:
    """The error in words, on stderr; what a rank saw follows its error, as far as it helps."""
    print(f"pipelab: {error}", file=sys.stderr)
    if isinstance(error, RankError) and error.details:
        print("\n".join(error.details.rstrip().splitlines()[-8:]), file=sys.stderr)
    sys.stderr.flush()


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
        case "show":
            from pipelab.cli.show import show

            show(arguments)
            return 0
        case "simulate":
            from pipelab.cli.simulate import simulate

            return simulate(arguments)
        case "progress":
            from pipelab.cli.course import progress

            progress()
            return 0
        case "edition":
            from pipelab.cli.course import edition

            edition(arguments.edition, arguments.folder)
            return 0
        case "compare":
            from pipelab.cli.compare import run

            return run(arguments)
        case _:
            from pipelab.cli.doctor import doctor

            return doctor()

"""The command line: arguments in, exit code out.

0: done. 1: refused or failed, with the reason in words. 2: arguments that make no sense. 130:
ended by Ctrl-C.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from pipelab.cli import console
from pipelab.cli.options import parse
from pipelab.errors import PipelabError, RankError


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
    finally:
        if is_program:
            console.end_fork_server()


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

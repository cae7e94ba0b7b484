"""Run a learner's function in a fresh process, with a deadline.

An endless loop, an exit() or a crash ends that process alone. What comes back is plain data, so
that an object which claims to be equal to everything cannot pass a check.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import NamedTuple

import cloudpickle
import torch

from pipelab.action import Action
from pipelab.engine.launch import fork_server
from pipelab.engine.launch.interrupt import Uninterrupted
from pipelab.errors import LaunchError
from pipelab.tracebacks import own_lines

NOT_TRIED = "not tried, since the case before it did not finish"
Function = Callable[..., object]


class Outcome(NamedTuple):
    """What a call returned, or in words why it returned nothing."""

    value: object = None
    problem: str = ""


def call(
    function: Function, cases: Sequence[tuple[object, ...]], seconds: float = 10.0
) -> list[Outcome]:
    """The function's outcome for each case, the arguments of one call; all in one fresh process.

    ``seconds``: for all cases together. A case that had no time left has a problem, too.
    """
    work = cloudpickle.dumps((function, list(cases)))
    fork_server.wait_until_up()
    with ExitStack() as opened:
        with Uninterrupted():  # a process that nobody knows would not be ended
            ours, theirs = map(opened.enter_context, fork_server.pipe())
            child = fork_server.fork("pipelab answer", _main, theirs, work)
            opened.callback(child.close)
            opened.callback(child.kill)
        theirs.close()
        return _collect(ours, len(cases), seconds)


def _collect(pipe: Connection, number: int, seconds: float) -> list[Outcome]:
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + seconds
    problem = ""
    while len(outcomes) < number and not problem:
        try:
            if pipe.poll(max(0.0, deadline - time.monotonic())):
                outcomes.append(cloudpickle.loads(pipe.recv_bytes()))
            else:
                problem = f"it was still running after {seconds:g} s, and was stopped"
        except (EOFError, OSError):
            problem = "its process ended: exit() or a crash"
    if len(outcomes) < number:
        outcomes.append(Outcome(None, problem))
    return outcomes + [Outcome(None, NOT_TRIED)] * (number - len(outcomes))


def _main(pipe: Connection, work: bytes) -> None:
    """In the fresh process: send one outcome after another, and print nothing."""
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    torch.set_num_threads(1)
    function, cases = cloudpickle.loads(work)
    for arguments in cases:
        pipe.send_bytes(cloudpickle.dumps(_outcome(function, arguments)))


def _outcome(function: Function, arguments: tuple[object, ...]) -> Outcome:
    try:
        return Outcome(plain(function(*arguments)))
    except NotImplementedError:
        return Outcome(None, "it is not written yet")
    except RecursionError:
        return Outcome(None, "it calls itself without end, or returns a list that contains itself")
    except LaunchError:
        return Outcome(None, "it starts ranks; measure in a cell instead")
    except SystemExit:
        return Outcome(None, "it calls exit()")
    except Exception as error:
        own = own_lines(error.__traceback__)
        where = f" in line {own[0].number}" if own else ""
        return Outcome(None, f"{type(error).__name__}{where}: {error}")


def plain(value: object) -> object:
    """The value as lists, dicts, text, numbers and tensors; an Action becomes its token.

    Raises:
        TypeError: it holds something else.

    >>> plain((1, range(2), Action.parse("2F0")))
    [1, [0, 1], '2F0']
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, Action):
        return value.token
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(item) for item in value]
    if hasattr(value, "item"):  # a number of numpy's
        return plain(value.item())
    raise TypeError(f"it returned a {type(value).__name__}; return lists, numbers or text")

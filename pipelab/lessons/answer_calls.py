"""What runs in the process of an answer: call it for each case, and send what it returns.

Limits are the system's, since an answer may do anything here: seconds of computing (other programs
on the machine do not count), and memory.
"""

import os
import pickle
import resource
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

import torch

from pipelab.errors import LaunchError
from pipelab.lessons.answer_bytes import kind_name
from pipelab.lessons.frames import MOST_BYTES, framed
from pipelab.lessons.plain_data import encoded, plain
from pipelab.lessons.prints import NEXT
from pipelab.tracebacks import own_lines

Function = Callable[..., object]

_MEMORY = 2 << 30  # bytes that it may take in addition
_RUNS_AWAY = "it calls itself without end, or returns a list that contains itself"


def main(
    results: Connection, prints: Connection, work: bytes, cases: Sequence[bytes], seconds: float
) -> None:
    """Send one outcome after another: the target of the process."""
    with suppress(OSError):  # it leads a session already
        os.setsid()  # so that whatever it forks is found, and ended with it
    _print_to(prints.fileno())
    prints.close()
    torch.set_num_threads(1)
    _limit(seconds)
    try:
        function: Function = pickle.loads(work)
    except BaseException as error:
        problem = f"it cannot be made again in its process: {_said(error)}"
        function = _raising(TypeError(problem))
    try:
        for arguments in cases:
            _send(_outcome(function, arguments), results.fileno())
    except BaseException:  # an answer's timer, or its trace function: no traceback is its print
        os._exit(1)


def _send(outcome: bytes, handle: int) -> None:
    frame = framed(outcome)
    with suppress(Exception):  # a stream that the answer has closed
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(1, NEXT)
    while frame:
        frame = frame[os.write(handle, frame) :]


def _raising(error: Exception) -> Function:
    def function(*arguments: object) -> object:
        raise error

    return function


def _print_to(handle: int) -> None:
    """Send all that is printed, from Python or from C, to the parent; there is nothing to read."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = open(number, "w", 1, "utf-8", "replace", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)


def _limit(seconds: float) -> None:
    whole = max(1, round(seconds))
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    limits = {
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_CPU: (whole + int(used), whole + int(used) + 1),
    }
    if sys.platform == "linux":
        pages = int(open("/proc/self/statm").read().split()[0])  # noqa: SIM115
        most = pages * resource.getpagesize() + _MEMORY
        limits[resource.RLIMIT_AS] = (most, most)
    for kind, limit in limits.items():
        with suppress(ValueError, OSError):  # a lower limit is set already
            resource.setrlimit(kind, limit)


def _outcome(function: Function, arguments: bytes) -> bytes:
    value, problem = _called(function, pickle.loads(arguments))
    try:
        data = encoded([value, problem])
    except Exception as error:
        return encoded([None, f"it returned what cannot be sent: {_said(error)}"])
    if len(data) > MOST_BYTES:
        return encoded([None, f"it returned {len(data):,} bytes; return what is asked for"])
    return data


def _called(function: Function, arguments: tuple[object, ...]) -> tuple[object, str]:
    """What it returns as plain data, or why it returned nothing."""
    try:
        return plain(function(*arguments)), ""
    except NotImplementedError:
        return None, "it is not written yet"
    except RecursionError:
        return None, _RUNS_AWAY
    except MemoryError:
        return None, f"it needs more than {_MEMORY >> 30} GiB of memory"
    except LaunchError:
        return None, "it starts ranks; measure in a cell instead"
    except SystemExit:
        return None, "it calls exit()"
    except BaseException as error:
        own = own_lines(error.__traceback__)
        where = f" in line {own[0].number}" if own else ""
        return None, f"{kind_name(error)}{where}: {_said(error)}".removesuffix(": ")


def _said(error: BaseException) -> str:
    """The message of an error, also of one that cannot say it."""
    try:
        text = str(error)
    except BaseException:
        return f"a {kind_name(error)} without words"
    return text if len(text) <= 500 else text[:499] + "…"

"""The next day: a cell that needs what earlier cells made says so, in place of a NameError.

A notebook keeps its text and pictures, but a new kernel has run none of its cells. Active in a
notebook once anything of pipelab is imported; each cell of a lesson that needs earlier ones begins
with such an import. Below a NameError in another cell's function stands the same advice.
"""

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from pipelab.tracebacks import own_lines


class _Tracebacks(Protocol):
    def structured_traceback(
        self,
        kind: type[BaseException],
        error: BaseException,
        traceback: TracebackType,
        tb_offset: int | None = None,
    ) -> list[str]: ...


class _Shell(Protocol):
    user_ns: dict[str, object]
    InteractiveTB: _Tracebacks

    def set_custom_exc(self, kinds: tuple[type[BaseException], ...], handler: object) -> None: ...
    def showtraceback(self, exc_tuple: object, tb_offset: int | None = None) -> None: ...
    def _showtraceback(
        self, kind: type[BaseException], error: BaseException, lines: Sequence[str]
    ) -> None: ...


def begin() -> None:
    """Explain names that this kernel does not know yet; outside of a notebook, nothing."""
    kernel = sys.modules.get("ipykernel")
    interactive = sys.modules.get("IPython")
    if kernel is not None and interactive is not None:
        shell = interactive.get_ipython()
        if shell is not None:
            shell.set_custom_exc((NameError,), _explain)


def _explain(
    shell: _Shell,
    kind: type[BaseException],
    error: NameError,
    traceback: TracebackType,
    tb_offset: int | None = None,
) -> None:
    lines = own_lines(traceback)
    if isinstance(error, UnboundLocalError) or not lines or not _is_of_cells(shell, traceback):
        shell.showtraceback((kind, error, traceback), tb_offset)
        return
    if lines[-1].file == lines[0].file:  # all in this cell
        shell._showtraceback(kind, error, [lines[-1].text, "", *said(error.name or str(error))])
        return
    shell._showtraceback(kind, error, _shown(shell, kind, error, traceback, tb_offset))


def _is_of_cells(shell: _Shell, traceback: TracebackType) -> bool:
    """Whether the name was looked for among those that cells make, not in some module."""
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback.tb_frame.f_globals is shell.user_ns


def _shown(
    shell: _Shell,
    kind: type[BaseException],
    error: NameError,
    traceback: TracebackType,
    tb_offset: int | None,
) -> list[str]:
    usual = shell.InteractiveTB.structured_traceback(kind, error, traceback, tb_offset=tb_offset)
    return [*usual, "", *said(error.name or str(error))]


def said(name: str) -> list[str]:
    r"""What a learner reads, line by line.

    >>> print(*said("four"), sep="\n")
    This kernel does not know 'four' yet: an earlier cell makes it, and has not run since the
    kernel was started. Choose Run > Run All Above Selected Cell, then run this cell again.
    (If 'four' is a name of your own, look at its spelling; text needs quotation marks: "four".)
    """
    return [
        f"This kernel does not know {name!r} yet: an earlier cell makes it, and has not run since "
        "the",
        "kernel was started. Choose Run > Run All Above Selected Cell, then run this cell again.",
        f"(If {name!r} is a name of your own, look at its spelling; text needs quotation marks: "
        f'"{name}".)',
    ]

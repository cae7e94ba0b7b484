"""The next day: a cell that needs what earlier cells made says so, in place of a NameError.

A notebook keeps its text and pictures, but a new kernel has run none of its cells. Active in a
notebook once ``pipelab.lessons`` or ``pipelab.widgets`` is imported; a NameError within a function
stays what it is.
"""

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from pipelab.tracebacks import own_lines


class _Shell(Protocol):
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
    if isinstance(error, UnboundLocalError) or not lines or lines[-1].function != "<module>":
        shell.showtraceback((kind, error, traceback), tb_offset)
        return
    shell._showtraceback(kind, error, said(error.name or str(error), lines[-1].text).split("\n"))


def said(name: str, line: str) -> str:
    """What a learner reads.

    >>> print(said("four", "Timeline(four)"))
    Timeline(four)
    <BLANKLINE>
    This kernel does not know 'four' yet: an earlier cell makes it, and has not run since the
    kernel was started. Choose Run > Run All Above Selected Cell, then run this cell again.
    (If 'four' is a name of your own, look at its spelling.)
    """
    return (
        f"{line}\n\n"
        f"This kernel does not know {name!r} yet: an earlier cell makes it, and has not run since "
        "the\nkernel was started. Choose Run > Run All Above Selected Cell, then run this cell "
        f"again.\n(If {name!r} is a name of your own, look at its spelling.)"
    )

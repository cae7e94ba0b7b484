"""Figures that a lesson prints itself: a mark in their line where the machine was busy.

Pictures, the lab, ``reveal`` and checks say so themselves.
"""

from pipelab.trace import Trace


def busy(*traces: Trace) -> str:
    """What ends the line of figures that were recorded in these traces; empty, if undisturbed.

    >>> from pipelab.trace import Setting
    >>> calm = Trace((), "recorded", Setting(paced="F 10 ms"))
    >>> late = Trace((), "recorded", Setting(paced="F 10 ms", late=4, timed=8, lost=0.02))
    >>> f"330 ms{busy(calm)}", f"344 ms{busy(calm, late)}"
    ('330 ms', '344 ms  (busy machine: run again)')
    """
    return "  (busy machine: run again)" if any(trace.warning for trace in traces) else ""

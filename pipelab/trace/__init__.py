"""WHEN it happened, or would: traces, the numbers read from them, and Perfetto's format."""

from pipelab.trace.differences import compare
from pipelab.trace.disturbance import UNDISTURBED, Disturbance
from pipelab.trace.event import Event, Memory, Setting
from pipelab.trace.idle import explain_idle
from pipelab.trace.metrics import expected_bubble_fraction
from pipelab.trace.path import critical_path
from pipelab.trace.trace import Trace, least_disturbed

__all__ = [
    "UNDISTURBED",
    "Disturbance",
    "Event",
    "Memory",
    "Setting",
    "Trace",
    "compare",
    "critical_path",
    "expected_bubble_fraction",
    "explain_idle",
    "least_disturbed",
]

"""WHEN it happened, or would: traces, the numbers read from them, and Perfetto's format."""

from pipelab.trace.metrics import expected_bubble_fraction
from pipelab.trace.trace import Event, Memory, Setting, Trace

__all__ = ["Event", "Memory", "Setting", "Trace", "expected_bubble_fraction"]

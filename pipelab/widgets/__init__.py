"""Traces in a notebook: a picture with words, and a lab whose controls start live runs."""

from pipelab.widgets.lab import TimelineLab
from pipelab.widgets.timeline import Timeline

__all__ = ["Timeline", "TimelineLab"]

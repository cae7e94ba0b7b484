"""WHAT each rank does: schedules as data, without torch, stages or processes."""

from pipelab.schedules.builders import gpipe, one_f_one_b, sequential
from pipelab.schedules.schedule import Schedule
from pipelab.schedules.validate import validate

__all__ = ["Schedule", "gpipe", "one_f_one_b", "sequential", "validate"]

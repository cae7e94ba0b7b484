"""WHAT each rank does: schedules as data, without torch, stages or processes."""

from pipelab.schedules.blocks import from_block, v_half, v_min
from pipelab.schedules.builders import gpipe, one_f_one_b, sequential
from pipelab.schedules.communication import validate
from pipelab.schedules.dual_pipe import dual_pipe_v
from pipelab.schedules.interleaved import interleaved
from pipelab.schedules.recognition import recognise
from pipelab.schedules.schedule import Schedule
from pipelab.schedules.sliced import seq1f1b
from pipelab.schedules.zero_bubble import zero_bubble_h1, zero_bubble_v

__all__ = [
    "Schedule",
    "dual_pipe_v",
    "from_block",
    "gpipe",
    "interleaved",
    "one_f_one_b",
    "recognise",
    "seq1f1b",
    "sequential",
    "v_half",
    "v_min",
    "validate",
    "zero_bubble_h1",
    "zero_bubble_v",
]

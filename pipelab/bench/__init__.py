"""Ratios, side by side: pipelab against torchrun and torch.distributed.pipelining.

    python -m pipelab.bench launch    four ranks up and joined, against torchrun's
    python -m pipelab.bench step      one training step, against torch's own schedules
    python -m pipelab.bench memory    bytes of each rank, against the same
    python -m pipelab.bench simulate  larger and larger schedules, against the smallest

Times on a shared machine are worth little, so both sides run in turns, A B A B, in one run, and
what is reported is the median of the ratios of neighbours, with its quartiles.
"""

from pipelab.bench.ratio import Ratio

__all__ = ["Ratio"]

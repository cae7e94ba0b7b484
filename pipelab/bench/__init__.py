"""Ratios, side by side: pipelab against torchrun and torch.distributed.pipelining.

    python -m pipelab.bench launch    four ranks up and joined, against torchrun's
    python -m pipelab.bench step      one training step, against torch's own schedules

Times on a shared machine are worth little, so both sides run in turns, A B A B, in one run, and
what is reported is the median of the ratios of neighbours, with its quartiles. More benchmarks,
for those who change pipelab, stand in a clone's ``tests/benchmarks/``.
"""

from pipelab.bench.ratio import Ratio

__all__ = ["Ratio"]

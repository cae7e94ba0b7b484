"""Stage times of two production jobs, as figures, and how to run them in short on this machine.

Medians that we read from the timelines that ByteDance published with Lin et al. 2025,
"Understanding Stragglers in Large Model Training Using What-if Analysis" (OSDI 2025, arXiv
2505.05713; repository ByteDance-Seed/StragglerAnalysis). Forward and backward alone: the reduction
of gradients, the optimizer and the messages are left out.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pipelab.simulator import Cost

__all__ = ["JOBS", "Job"]


class Job(NamedTuple):
    """A job that trained with 1F1B, one stage on each rank of a replica.

    Attributes:
        microbatches: of a step, on each replica.
        forward: milliseconds of F, for each replica and each of its ranks.
        backward: milliseconds of B, in the same order.
    """

    microbatches: int
    forward: Sequence[Sequence[float]]
    backward: Sequence[Sequence[float]]

    @property
    def ranks(self) -> int:
        """Ranks of one replica."""
        return len(self.forward[0])

    def cost(self, replica: int = 0, times_faster: float = 1.0) -> Cost:
        """What one replica's actions take, in seconds; messages are free."""
        shorter = 1000 * times_faster
        half = [b / 2 / shorter for b in self.backward[replica]]
        return Cost([f / shorter for f in self.forward[replica]], half, half)


JOBS = {
    # the file "ST": 2 replicas of 4 ranks; both take the same times, within 2 %
    "8 GPUs": Job(4, [[68, 68, 68, 140]] * 2, [[145, 145, 145, 205]] * 2),
    # the file "AR": 4 replicas of 4 ranks; 4 GPUs share each rank's tensors
    "64 GPUs": Job(
        32,
        [[546, 217, 217, 232], [218, 219, 219, 233], [218, 218, 217, 232], [219, 218, 217, 232]],
        [[869, 383, 383, 398], [382, 384, 383, 397], [383, 383, 379, 394], [384, 382, 381, 394]],
    ),
}

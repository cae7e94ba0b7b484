"""fp16: scale the loss up before the backward, and the gradients down after it.

Half precision knows nothing between 0 and 6e-8, where many gradients lie. Scaled up they survive;
scaled too far they overflow to infinity. Then the update is left out, on all ranks alike, and the
scale is halved (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2; as torch.amp.GradScaler,
but one decision for the whole model).
"""

from collections.abc import Sequence

from torch import Tensor

from pipelab.engine.data_parallel import DataParallel

START, GROWTH_STEPS = 2.0**16, 2000


class LossScale:
    """The scale of one rank; equal on all of them, since all hear the same of every update."""

    def __init__(self, scale: float = START, good_steps: int = 0):
        self.scale = scale
        self.good_steps = good_steps

    def unscale(self, gradients: Sequence[Tensor], data_parallel: DataParallel) -> bool:
        """Scale the gradients down; False if any rank's have overflowed. Sets the next scale."""
        for gradient in gradients:
            gradient.div_(self.scale)
        values = [g._values() if g.is_sparse else g for g in gradients]  # an embedding's may be
        overflowed = sum(not bool(x.isfinite().all()) for x in values)
        if data_parallel.total(float(overflowed)) > 0:
            self.scale, self.good_steps = self.scale / 2, 0
            return False
        self.good_steps += 1
        if self.good_steps == GROWTH_STEPS:
            self.scale, self.good_steps = self.scale * 2, 0
        return True

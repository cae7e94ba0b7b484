"""Add up over several ranks: gradients over replicas, squared norms over stages.

Replicas are copies of the whole pipeline; each trains on its own rows. Their losses are weighted by
THE GRADIENT RULE already (protocol/gradient_rule.py), so adding over the replicas gives the mean.
One all-reduce per stage, started as soon as the stage's last backward has ended: it runs in the
background while the rank still computes.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.futures import Future

from pipelab.engine.protocol.device import Moment, clock_of
from pipelab.engine.transport import groups
from pipelab.engine.transport.backends import named

_HOST = torch.device("cpu")
_SPARSE = 1 + 2**-10  # one gradient, and in the fraction that it is sparse


@dataclass
class Reduction:
    """One stage's pending all-reduce."""

    work: dist.Work
    flat: Tensor
    parameters: Sequence[nn.Parameter]
    buffers: Sequence[Tensor]
    ended: list[Moment]  # one, once ``completion`` is done
    completion: Future[None]
    by_nccl: bool


class DataParallel:
    """The groups of ranks that add up; with one replica and one rank there is nothing to add.

    Args:
        replicas: the ranks that hold the same stages, or None if this rank is the only one.
        pipeline: the ranks of one copy of the pipeline, or None if this rank is the only one.
        gpus: the replicas as a group of NCCL's, where each rank has a GPU, and ``device``, which.
        add: adds a number up over the ranks of this copy, in place of ``pipeline``.
    """

    def __init__(
        self, replicas: dist.ProcessGroup | None, pipeline: dist.ProcessGroup | None,
        timeout: float, gpus: dist.ProcessGroup | None = None, device: torch.device = _HOST,
        add: Callable[[float], float] | None = None,
    ):  # fmt: skip
        self.replicas = replicas
        self.pipeline = pipeline
        self.timeout = timeout
        self.gpus = gpus
        self.device = device
        self.add = add
        self.clock = clock_of(_HOST if gpus is None else device)  # made once: that waits for a GPU
        self.by_host = False

    def begin(self, by_host: bool) -> None:
        """Start a batch; the first of its kind adds up in host memory (transport/backends.py)."""
        self.by_host = by_host

    def start(
        self, stage: nn.Module, parameters: Iterable[nn.Parameter] | None = None
    ) -> Reduction | None:
        """Begin to add up the gradients of a stage over its replicas; never blocks.

        ``parameters``: some of the stage's, without those that another stage of this rank adds up.
        Its buffers are sent too, such as BatchNorm's running statistics: those of the first copy
        count for all, as in torch's DistributedDataParallel.
        """
        own = stage.parameters() if parameters is None else parameters
        trained = [p for p in own if p.requires_grad]
        if self.replicas is None or not trained:
            return None
        by_nccl = self.gpus is not None and not self.by_host
        group, device = (self.gpus, self.device) if by_nccl else (self.replicas, _HOST)
        assert group is not None
        now, ended = self.clock.now if by_nccl else time.monotonic, list[Moment]()
        buffers = [b for b in stage.buffers() if b.is_floating_point()]
        first = self.replicas.rank() == 0
        # One flat tensor, with a count of gradients behind it: a parameter that no replica used
        # keeps None, as in one process.
        parts = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in trained]
        parts += [b if first else torch.zeros_like(b) for b in buffers]
        parts.append(torch.tensor([_counted(p.grad) for p in trained]))
        flat = torch.cat([part.flatten().to(device) for part in parts])
        work = group.allreduce([flat])
        # gloo calls this on completion; NCCL at once, on a stream that waits for completion
        completion = work.get_future().then(lambda _: ended.append(now()))
        return Reduction(work, flat, trained, buffers, ended, completion, by_nccl)

    def finish(self, reduction: Reduction) -> Moment:
        """Block until a reduction has completed, and put the gradients where they belong.

        Returns the moment at which it completed.
        """
        self._wait(reduction.work, reduction.by_nccl)
        reduction.completion.wait()
        tensors = [*reduction.parameters, *reduction.buffers]
        sizes = [*(tensor.numel() for tensor in tensors), len(reduction.parameters)]
        *parts, counts = torch.split(reduction.flat, sizes)
        for parameter, part, count in zip(
            reduction.parameters, parts, counts.real.tolist(), strict=False
        ):
            if count:
                own = part.real if part.is_complex() and not parameter.is_complex() else part
                gradient = own.view(parameter.shape).to(parameter)
                if gradient.stride() != parameter.stride():  # in its memory order, as autograd's
                    gradient = torch.empty_like(parameter).copy_(gradient)
                are_sparse = count == int(count) * _SPARSE
                parameter.grad = gradient.to_sparse(1) if are_sparse else gradient
        for buffer, part in zip(reduction.buffers, parts[len(reduction.parameters) :], strict=True):
            buffer.copy_((part.real if part.is_complex() else part).view(buffer.shape))
        return reduction.ended[0]

    def total(self, value: float) -> float:
        """A number added up over the ranks of this copy of the pipeline; blocks."""
        if self.add is not None:
            with named():
                return self.add(value)
        tensor = torch.tensor([value], dtype=torch.float64)
        if self.pipeline is not None:
            self._wait(self.pipeline.allreduce([tensor]))
        return tensor.item()

    def whole_loss(self, part: float | None) -> float:
        """The loss of the whole batch on every rank, the same float that ``step`` returns; blocks.

        Each copy of the pipeline adds to a separate entry, so adding is exact; the copies' parts
        are then added as the driver adds them.
        """
        if self.add is not None:  # one copy, and one rank of it has the loss
            return self.total(0.0 if part is None else part)
        group = self.replicas
        copies, own = (1, 0) if group is None else (group.size(), group.rank())
        parts = torch.zeros(copies, dtype=torch.float64)
        parts[own] = 0.0 if part is None else part
        for group in (self.pipeline, self.replicas):
            if group is not None:
                self._wait(group.allreduce([parts]))
        return float(sum(parts.tolist()))

    def close(self) -> None:
        """Release NCCL; the groups of gloo are not ours."""
        if self.gpus is not None:
            self.gpus.abort()

    def _wait(self, work: dist.Work, by_nccl: bool = False) -> None:
        with named():
            (groups.finish if by_nccl else groups.wait)(work, self.timeout)


def _counted(gradient: Tensor | None) -> float:
    """What counts one gradient, and whether it is sparse: the sum of some says if all are."""
    if gradient is None:
        return 0.0
    return _SPARSE if gradient.is_sparse else 1.0

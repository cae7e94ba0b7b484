"""One rank of the other side: torch.distributed.pipelining, as its documentation has it.

It is as well off as it can be: its process comes from the same fork server as ours, with the same
number of threads; it holds its part of the batch already; it records nothing; and it takes its own
time, from a barrier on, so that it pays for no pipe. With ``affinity`` it keeps to one core, rank
modulo cores, which torch leaves to its user.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipelab.bench.limit import Alone, Computation
from pipelab.engine.protocol.commands import Loss, Optimizer, PipeEnded, receive, send
from pipelab.engine.rank.affinity import set_affinity
from pipelab.schedules.catalogue import BUILDERS


@dataclass(frozen=True)
class Job:
    """What a rank has to do from now on. The first stage's has inputs, the last stage's targets."""

    stages: dict[int, nn.Module]
    num_stages: int
    loss: Loss
    optimizer: Optimizer
    schedule: str
    num_microbatches: int
    inputs: Tensor | None
    targets: Tensor | None
    affinity: bool


@dataclass(frozen=True)
class Refused:
    """What a rank answers to a job that torch does not take: torch's words."""

    words: str


@dataclass(frozen=True)
class Block:
    """What a rank answers after some steps: when they began and ended, and the last loss."""

    start: float
    end: float
    loss: float | None


def main(
    rank: int, num_ranks: int, pipe: Connection, folder: Path, timeout: float, threads: int
) -> NoReturn:
    """Be one rank: answer one order after the other, until the pipe closes."""
    torch.set_num_threads(threads)
    try:
        _join(folder, rank, num_ranks, timeout)
        send(pipe, None)
        torch_rank = _Rank(rank)
        while True:
            send(pipe, torch_rank.answer(receive(pipe)))
    except PipeEnded:
        os._exit(0)  # the bench has finished
    except BaseException:
        with suppress(PipeEnded):  # the bench closes the pipe when another rank has failed before
            send(pipe, traceback.format_exc())
        os._exit(1)


class _Rank:
    def __init__(self, rank: int):
        self.rank = rank

    def answer(self, order: object) -> object:
        """A Job with None or Refused, a number with a Block of so many steps, a word with data.

        A Computation is done beside the job, by ``("alone", number)``.
        """
        match order:
            case Job():
                return self.take(order)
            case Computation():
                self.alone = Alone(order)
                return None
            case int():
                return self.run(order, self.step)
            case ("alone", int(number)):
                return self.run(number, self.alone.step)
            case "gradients":
                return self.gradients()
            case "buffers":
                return self.buffers()
        raise TypeError(f"unknown order {order!r}")

    def take(self, job: Job) -> Refused | None:
        """Do this from now on."""
        self.job = job
        if job.affinity:
            allowed = sorted(os.sched_getaffinity(0))
            set_affinity({allowed[self.rank % len(allowed)]})
        self.inputs = () if job.inputs is None else (job.inputs,)
        parameters = (p for stage in job.stages.values() for p in stage.parameters())
        self.optimizer = job.optimizer(list(parameters))
        device = torch.device("cpu")
        from torch.distributed.pipelining import PipelineStage

        self.stages = [
            PipelineStage(module, number, job.num_stages, device)
            for number, module in job.stages.items()
        ]
        try:
            self.schedule = _schedule(job, self.stages)
        except ValueError as error:
            return Refused(str(error))
        return None

    def run(self, num_steps: int, step: Callable[[], float | None]) -> Block:
        loss = None
        dist.barrier()
        start = time.monotonic()
        for _ in range(num_steps):
            loss = step()
        return Block(start, time.monotonic(), loss)

    def step(self) -> float | None:
        """One step with its loss, on the last rank, as a number: training loops print it."""
        losses: list[Tensor] = []
        self.optimizer.zero_grad()
        self.schedule.step(
            *self.inputs, target=self.job.targets, losses=losses, return_outputs=False
        )
        self.optimizer.step()
        return torch.stack(losses).mean().item() if losses else None

    def gradients(self) -> dict[str, Tensor]:
        stages = self.job.stages.values()
        named = (pair for stage in stages for pair in stage.named_parameters())
        return {name: p.grad for name, p in named if p.grad is not None}

    def buffers(self) -> int:
        """Bytes of the tensors that stay for messages to come (torch's private names)."""
        infos = (
            info
            for stage in self.stages
            for kept in (stage.args_recv_info, stage.grad_recv_info)
            for row in kept.values()
            for info in row
        )
        buffers = (getattr(info, "buffer", None) for info in infos)
        return sum(buffer.nbytes for buffer in buffers if isinstance(buffer, Tensor))


def _schedule(job: Job, stages: list[Any]) -> Any:
    """Torch's own schedule of that name. Raises ValueError where it refuses the numbers."""
    from torch.distributed import pipelining as torchs
    from torch.distributed.pipelining import schedules

    options: dict[str, Any] = {"n_microbatches": job.num_microbatches, "loss_fn": job.loss}
    schedule = getattr(torchs, BUILDERS[job.schedule].torch or "")
    if issubclass(schedule, schedules.PipelineScheduleSingle):
        return schedule(*stages, **options)
    return schedule(stages, **options)


def _join(folder: Path, rank: int, num_ranks: int, timeout: float) -> None:
    """Meet the other ranks as ours do, but by torch's means alone: nothing of ours tunes it."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    dist.init_process_group(
        "gloo",
        init_method=(folder / "meeting-point").as_uri(),
        rank=rank,
        world_size=num_ranks,
        timeout=timedelta(seconds=timeout),
    )

"""One rank of the other side: torch.distributed.pipelining, as its documentation has it.

It is as well off as it can be: its process comes from the same fork server as ours, with the same
number of threads; it holds its part of the batch already; it records nothing; and it takes its own
time, from a barrier on, so that it pays for no pipe. With ``pinned`` it keeps to one core, rank
modulo cores, which torch leaves to its user.
"""

import os
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipelab.engine.commands import Loss, Optimizer, receive, send


@dataclass(frozen=True)
class Job:
    """What a rank is told at its start. Inputs go to the first, targets to the last rank."""

    stage: nn.Module
    loss: Loss
    optimizer: Optimizer
    schedule: str
    num_microbatches: int
    inputs: Tensor | None
    targets: Tensor | None
    pinned: bool


@dataclass(frozen=True)
class Block:
    """What a rank answers after some steps: when they began and ended, and the last loss."""

    start: float
    end: float
    loss: float | None


def main(
    rank: int, num_ranks: int, pipe: Connection, folder: Path, timeout: float, threads: int
) -> NoReturn:
    """Be one rank: answer a Job with None, an int with a Block of so many steps, "gradients"."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        _join(folder, rank, num_ranks, timeout)
        torch_rank = _Rank(receive(pipe), rank, num_ranks)
        send(pipe, None)
        while True:
            order = receive(pipe)
            send(pipe, torch_rank.run(order) if isinstance(order, int) else torch_rank.gradients())
    except (EOFError, BrokenPipeError):
        os._exit(0)  # the bench is through
    except BaseException:
        send(pipe, traceback.format_exc())
        os._exit(1)


class _Rank:
    def __init__(self, job: Job, rank: int, num_ranks: int):
        from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

        self.job = job
        if job.pinned:
            _pin(rank)
        self.inputs = () if job.inputs is None else (job.inputs,)
        self.optimizer = job.optimizer(list(job.stage.parameters()))
        stage = PipelineStage(job.stage, rank, num_ranks, torch.device("cpu"))
        schedule = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}[job.schedule]
        self.schedule = schedule(stage, job.num_microbatches, loss_fn=job.loss)

    def run(self, num_steps: int) -> Block:
        loss = None
        dist.barrier()
        start = time.monotonic()
        for _ in range(num_steps):
            loss = self.step()
        return Block(start, time.monotonic(), loss)

    def step(self) -> float | None:
        """One step with its loss, on the last rank, as a number: training loops print it."""
        losses: list[Tensor] = []
        self.job.stage.zero_grad(set_to_none=True)
        self.schedule.step(
            *self.inputs, target=self.job.targets, losses=losses, return_outputs=False
        )
        self.optimizer.step()
        return torch.stack(losses).mean().item() if losses else None

    def gradients(self) -> dict[str, Tensor]:
        named = self.job.stage.named_parameters()
        return {name: p.grad for name, p in named if p.grad is not None}


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


def _pin(rank: int) -> None:
    """Keep all threads of this process, those of gloo too, on one core."""
    allowed = sorted(os.sched_getaffinity(0))
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), {allowed[rank % len(allowed)]})


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)

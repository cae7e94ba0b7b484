"""Run what the engine refuses: a schedule that is proven for buffered sends alone.

The engine refuses a schedule that hangs where a send blocks until its receive is posted (NCCL's
rule). A lesson shows what it refuses, on real ranks and with a short deadline: in shared memory a
send is buffered as long as its message fits into the ring between the two ranks.
"""

import torch
from torch import nn

from pipelab.engine import Pipeline
from pipelab.lessons.experiment import LOSS
from pipelab.schedules import Schedule, one_f_one_b
from pipelab.schedules.communication import lower
from pipelab.trace import Trace

__all__ = ["BROKEN", "exchange"]


class _Programs(dict[str, list[str]]):
    """Who asks for a program gets a list that is new: to change it in place changes no other."""

    def __getitem__(self, name: str) -> list[str]:
        return list(super().__getitem__(name))


_ROWS: dict[str, list[str]] = {  # for each rank its row; each is one change away from running
    "both send first": [
        "0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B0 0B0 0RECV_B1 0B1",
        "1RECV_F0 1F0 1B0 1SEND_B0 1RECV_F1 1F1 1B1 1SEND_B1",
    ],
    "swapped": [
        "0RECV_B0 0F0 0SEND_F0 0RECV_B1 0F1 0SEND_F1 0B0 0B1",
        "1RECV_F1 1RECV_F0 1F0 1F1 1B0 1SEND_B0 1B1 1SEND_B1",
    ],
    "forgotten": [
        "0RECV_B0 0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B1 0B0 0B1",
        "1RECV_F0 1RECV_F1 1RECV_B0 1F0 1SEND_F0 1F1 1SEND_F1 1B0 1SEND_B0 1RECV_B1 1B1",
        "2RECV_F0 2F0 2RECV_F1 2B0 2SEND_B0 2F1 2B1 2SEND_B1",
    ],
    "no message at fault": ["0F0 0F1 0B0 0B1", "1F0 1B0 1F1 1B1", "2F0 2F1 2B0 2B1"],
}
BROKEN = _Programs(_ROWS)


def exchange(schedule: Schedule, size: int, overlap: bool = True, timeout: float = 3.0) -> Trace:
    """One step on real ranks, with messages of ``size`` bytes; the recorded trace.

    Args:
        schedule: with its messages, one stage on each rank; judged for buffered sends alone.
        size: bytes of each message.
        overlap: False: a send blocks until its receive is posted, however small its message is.
        timeout: seconds after which ranks that do not advance are stopped.

    Raises:
        ScheduleError: it hangs, or mixes up messages, even if sends are buffered.
        RankTimeout: the ranks wait for each other.
    """
    p, m = schedule.num_ranks, schedule.num_microbatches
    stages: list[nn.Module] = [nn.PReLU() for _ in range(p)]  # rows of any length, one weight
    proven = lower(schedule, rendezvous=False)
    with Pipeline(
        stages, one_f_one_b(p, m), loss=LOSS, overlap=overlap, timeout=timeout
    ) as pipeline:
        pipeline._follow(proven)  # ``use`` would judge it for rendezvous, and refuse
        inputs = torch.ones(m, max(1, size // 4))
        return pipeline.step(inputs, torch.zeros(m, dtype=torch.long)).trace

"""Where the ranks of a pipeline come from: this process launches them, or torchrun has."""

import torch

from pipelab.engine.launch.processes import threads_per_rank
from pipelab.engine.launch.ranks import Ranks
from pipelab.engine.protocol.host import under_torchrun
from pipelab.engine.torchrun.ranks import TorchrunRanks


def start_ranks(
    num_ranks: int, replicas: int, timeout: float, idle_timeout: float | None
) -> Ranks | TorchrunRanks:
    """The ranks of one pipeline, all replicas, joined to each other."""
    if under_torchrun():  # its processes are the script's: they end with it
        return TorchrunRanks(num_ranks, replicas, timeout)
    return Ranks(num_ranks, replicas, timeout, idle_timeout)


def threads(num_ranks: int) -> int:
    """How many threads each rank computes with: those that torchrun gave it, or its share."""
    return torch.get_num_threads() if under_torchrun() else threads_per_rank(num_ranks)

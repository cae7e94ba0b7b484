"""Where the ranks of a pipeline come from: this process launches them, or torchrun has."""

import torch

from pipelab.engine.host import under_torchrun
from pipelab.engine.launch import Ranks, threads_per_rank
from pipelab.engine.torchrun import TorchrunRanks


def start_ranks(num_ranks: int, replicas: int, timeout: float) -> Ranks | TorchrunRanks:
    """The ranks of one pipeline, all replicas, joined to each other."""
    start = TorchrunRanks if under_torchrun() else Ranks
    return start(num_ranks, replicas, timeout)


def threads(num_ranks: int) -> int:
    """How many threads each rank computes with: those that torchrun gave it, or its share."""
    return torch.get_num_threads() if under_torchrun() else threads_per_rank(num_ranks)

"""Where the ranks of a pipeline come from: this process launches them, or torchrun has."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from pipelab.engine.launch.launched import LaunchedRanks
from pipelab.engine.launch.processes import threads_per_rank
from pipelab.engine.protocol.commands import Done
from pipelab.engine.protocol.host import under_torchrun
from pipelab.engine.protocol.progress import Begun
from pipelab.engine.torchrun.joined import TorchrunRanks
from pipelab.notice import noticed


class Ranks(Protocol):
    """The ranks of one pipeline, all replicas, connected to each other."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Their processes, in rank order; empty once closed."""

    @property
    def clock_error(self) -> float:
        """Seconds by which two ranks' times may be wrong against each other."""

    @property
    def is_closed(self) -> bool:
        """Whether they have ended, or this process has left them."""

    @property
    def why_closed(self) -> str:
        """Why they ended, if nobody asked them to."""

    def begun(self) -> tuple[Begun, ...]:
        """What each rank began last; any thread may ask at any time."""

    def ask(
        self, commands: Sequence[object], meanwhile: Callable[[], None] | None = None
    ) -> list[Done]:
        """Give each rank its command, do something meanwhile; return all answers, in rank order.

        Raises:
            RankError: a rank failed, died or was too late. The ranks are closed then.
        """

    def give(self, commands: Sequence[object]) -> None:
        """Give each rank its command, behind those that it has not carried out yet."""

    def answers(self) -> list[Done]:
        """The answers to the oldest commands that have been given. Raises RankError as ``ask``."""

    def ready(self, meet_again: bool = False) -> None:
        """The stages are built: from now on ``timeout`` holds.

        ``meet_again``: ranks may have to connect to each other once more, for NCCL.
        """

    def close(self) -> None:
        """End them. May be called twice."""


def start_ranks(num_ranks: int, replicas: int, timeout: float, idle_timeout: float | None) -> Ranks:
    """The ranks of one pipeline, all replicas, connected to each other.

    Raises:
        LaunchError: they did not start, or torchrun started another number.
    """
    if under_torchrun():  # its processes run the script: they end with it
        return TorchrunRanks(num_ranks, replicas, timeout)
    with noticed(f"starting {num_ranks} process{'es' * (num_ranks > 1)}"):
        return LaunchedRanks(num_ranks, replicas, timeout, idle_timeout)


def describe(ranks: Ranks | None, num_ranks: int) -> str:
    """A pipeline in one line, as a notebook shows it: its ranks, and how to close them.

    ``ranks``: None for a pipeline that could not be opened.
    """
    if ranks is None:
        return "<Pipeline: it was not opened>"
    if ranks.is_closed:
        why = f" ({ranks.why_closed})" if ranks.why_closed else ""
        return f"<Pipeline: closed{why}; open a new Pipeline to continue>"
    if isinstance(ranks, TorchrunRanks):
        return (
            f"<Pipeline: this process is rank {ranks.rank} of {num_ranks}, which torchrun "
            f"started; .close() leaves the others>"
        )
    number = "1 rank is" if num_ranks == 1 else f"{num_ranks} ranks are"
    return f"<Pipeline: {number} open, one process each; .close() ends them, as a with block does>"


def threads(num_ranks: int) -> int:
    """How many threads each rank computes with: those that torchrun gave it, or its share."""
    return torch.get_num_threads() if under_torchrun() else threads_per_rank(num_ranks)

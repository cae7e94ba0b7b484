"""The driver of the other side: starts the ranks of torch.distributed.pipelining, and asks them."""

from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import TracebackType

from torch import Tensor

from pipelab.bench import torch_rank
from pipelab.bench.limit import Computation
from pipelab.bench.torch_rank import Block, Job, Refused
from pipelab.engine.launch import fork_server
from pipelab.engine.launch.child import Child
from pipelab.engine.launch.interrupt import Uninterrupted
from pipelab.engine.launch.leftovers import PrivateFolder
from pipelab.engine.launch.processes import threads_per_rank
from pipelab.engine.protocol.commands import PipeEnded, receive, send
from pipelab.errors import PipelabError


class TorchRanks:
    """So many processes that wait for a job. Leave the ``with`` block, and they are gone."""

    def __init__(self, num_ranks: int, timeout: float = 60.0):
        fork_server.wait_until_up()
        self.timeout = timeout
        self.processes: list[Child] = []
        self.pipes: list[Connection] = []
        self.folder = PrivateFolder()
        try:
            for rank in range(num_ranks):
                self._start(rank, num_ranks)
            for rank in range(num_ranks):
                self._answer(rank)
        except BaseException:
            self.close()
            raise

    def take(self, jobs: Sequence[Job]) -> str:
        """Do these jobs from now on, one per rank; why torch refuses them, or nothing."""
        refused = [a.words for a in self._ask(jobs) if isinstance(a, Refused)]
        return refused[0] if refused else ""

    def _start(self, rank: int, num_ranks: int) -> None:
        threads = threads_per_rank(num_ranks)
        with Uninterrupted():  # a process that nobody knows would not be ended
            ours, theirs = fork_server.pipe()
            self.pipes.append(ours)
            with theirs:
                self.processes.append(fork_server.fork(
                    f"torch rank {rank}", torch_rank.main,
                    rank, num_ranks, theirs, self.folder.path, self.timeout, threads,
                ))  # fmt: skip

    def run(self, num_steps: int) -> tuple[float, float]:
        """Seconds for so many steps, from the first rank's start to the last one's end; the loss.

        The clock counts from the machine's start, so the times of all ranks compare.
        """
        return self._block(num_steps)

    def compute_alone(self, computations: Sequence[Computation]) -> None:
        """Take these for ``run_alone``."""
        self._ask(computations)

    def run_alone(self, num_steps: int) -> float:
        """Seconds for so many steps of computation alone, as ``run``."""
        return self._block(("alone", num_steps))[0]

    def _block(self, order: object) -> tuple[float, float]:
        blocks = [b for b in self._ask([order] * len(self.pipes)) if isinstance(b, Block)]
        seconds = max(block.end for block in blocks) - min(block.start for block in blocks)
        return seconds, next(block.loss for block in blocks if block.loss is not None)

    def gradients(self) -> dict[str, Tensor]:
        """The gradients of the last step, under the model's own names."""
        answers = self._ask(["gradients"] * len(self.pipes))
        return {k: v for answer in answers if isinstance(answer, dict) for k, v in answer.items()}

    def buffers(self) -> list[int]:
        """For each rank, the bytes that it keeps for messages to come."""
        answers = self._ask(["buffers"] * len(self.pipes))
        return [answer for answer in answers if isinstance(answer, int)]

    @property
    def pids(self) -> list[int]:
        """The processes, in rank order."""
        return [process.pid for process in self.processes]

    def _ask(self, orders: Sequence[object]) -> list[object]:
        for pipe, order in zip(self.pipes, orders, strict=True):
            send(pipe, order)
        return [self._answer(rank) for rank in range(len(orders))]

    def _answer(self, rank: int) -> object:
        if not self.pipes[rank].poll(2 * self.timeout):
            raise PipelabError(f"torch's rank {rank} gave no answer for {2 * self.timeout:g} s")
        try:
            answer: object = receive(self.pipes[rank])
        except PipeEnded:
            raise PipelabError(f"torch's rank {rank} died") from None
        if isinstance(answer, str):
            raise PipelabError(f"torch's rank {rank} failed:\n{answer}")
        return answer

    def close(self) -> None:
        """End all processes and remove the folder in which they met."""
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            if not process.has_ended(1.0):
                process.kill()
                process.has_ended(5.0)
            process.close()
        self.folder.close()
        self.folder.remove()

    def __enter__(self) -> "TorchRanks":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

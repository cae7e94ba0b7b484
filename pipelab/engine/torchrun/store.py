"""How torchrun's ranks learn of each other: through the key-value store that torchrun keeps.

There is no parent that collects answers. After each call every rank publishes its answer, or its
failure. No rank continues before all answers are there, or it is certain that one will not come: so
all ranks see the same answers, and raise the same error. Meanwhile a thread publishes a heartbeat
twice a second, with what the rank is doing: it continues while the rank itself hangs.

    key                  value
    NAME RANK            what the rank gave at the start under this name (``share``)
    answer CALL RANK     an ``Answer`` to one call
    heartbeat RANK       a ``Heartbeat``, the latest
    closed RANK          why the rank closed its pipeline
"""

import pickle
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from pipelab.engine.failures.deadline import Deadline
from pipelab.engine.failures.findings import Absent, State
from pipelab.engine.protocol.failure import Failure
from pipelab.engine.protocol.progress import Begun

_INTERVAL = 0.5  # seconds between two heartbeats
_SILENT = 4 * _INTERVAL  # without a heartbeat for so long, a process is gone
_GRACE = 3.0  # seconds for the other ranks to say why, once one has failed


class Heartbeat(NamedTuple):
    """That a rank's process runs: the number of the heartbeat, and what the rank began last."""

    number: int = 0
    begun: Begun = Begun()


@dataclass(frozen=True)
class Answer:
    """What one rank publishes after a call.

    Attributes:
        content: the rank's answer, pickled; of one that is too large for the store, its size in
            bytes; or why there is none.
        asked: the kind of call, and a checksum of its data (see ``fingerprint``).
        now: when, in seconds on this rank's clock.
        clock_error: seconds by which that clock may be wrong.
    """

    content: bytes | Failure | int
    asked: tuple[str, int]
    now: float = 0.0
    clock_error: float = 0.0


@dataclass
class Answers:
    """The answers of one call, by rank, and what is known of the ranks without one."""

    found: dict[int, Answer] = field(default_factory=dict)
    absent: dict[int, Absent] = field(default_factory=dict)
    begun: list[Begun] = field(default_factory=list)


@dataclass(eq=False)
class AnswerStore:
    """One rank's view of the store.

    Attributes:
        begun: called by the thread that sends heartbeats: what this rank began last.
        store: to be had once open.
        call: the number of the call that is answered.
        own: this rank's answer to it.
    """

    rank: int
    num_ranks: int
    begun: Callable[[], Begun]
    store: Store = field(init=False)
    call: int = 0
    own: Answer = field(init=False)
    _closed: threading.Event = field(default_factory=threading.Event)

    def open(self, name: str) -> None:
        """Connect, and begin to send heartbeats.

        ``name``: the same on all ranks, new for each pipeline.
        """
        self.store = _connect(name)
        # a second connection, for the heartbeats: the first may be busy
        threading.Thread(target=self._send_heartbeats, args=(_connect(name),), daemon=True).start()

    def _send_heartbeats(self, store: Store) -> None:
        number = 0
        with suppress(RuntimeError):  # the store is gone: nobody is left to read
            while not self._closed.is_set():
                number += 1
                _set(store, f"heartbeat {self.rank}", Heartbeat(number, self.begun()))
                self._closed.wait(_INTERVAL)

    def close(self, why: str) -> None:
        """Let the others know that this rank has closed its pipeline."""
        self._closed.set()
        with suppress(RuntimeError, AttributeError):  # the store is gone, or was never found
            self.store.set(f"closed {self.rank}", why)

    def share(self, name: str, value: object) -> list[Any]:
        """Give a value and get those of all ranks, once for each name, at the start.

        Raises:
            RuntimeError: not all came within the store's time.
        """
        _set(self.store, f"{name} {self.rank}", value)
        keys = [f"{name} {rank}" for rank in range(self.num_ranks)]
        return [pickle.loads(text) for text in self.store.multi_get(keys)]

    def publish(self, answer: Answer) -> None:
        """Publish this rank's answer to the next call.

        The one before the last has been read by all ranks, and is deleted.
        """
        self.call += 1
        self.own = answer
        with suppress(RuntimeError):  # the store is gone: ``collect`` finds that out, too
            _set(self.store, self._key(self.rank), answer)
            if self.call > 2:
                self.store.delete_key(f"answer {self.call - 2} {self.rank}")

    def collect(self, timeout: float) -> Answers:
        """All answers to this call; some are absent only where a rank has ended, or hangs.

        ``timeout``: seconds in which none of the missing ranks begins anything.
        """
        search = _Search(self, timeout)
        try:
            return self._collect(search)
        except RuntimeError:  # the store is gone, and with it rank 0's machine, or its agent
            search.found[self.rank] = self.own
            return search.answers(is_store_gone=True)

    def _collect(self, search: "_Search") -> Answers:
        keys = [self._key(rank) for rank in range(self.num_ranks)]
        began = time.monotonic()
        while not self.store.check(keys):
            if search.is_over():
                return search.answers()
            time.sleep(min(0.02, max(0.0002, 0.05 * (time.monotonic() - began))))  # 5 % late
        texts = self.store.multi_get(keys)
        search.found = {rank: pickle.loads(text) for rank, text in enumerate(texts)}
        if search.has_failure():
            search.look()  # where each of them is
        return search.answers()

    def answer(self, rank: int) -> Answer | None:
        """A rank's answer to this call, if it is there."""
        answer: Answer | None = self._get(self._key(rank))
        return answer

    def heartbeat(self, rank: int) -> Heartbeat:
        """A rank's latest heartbeat; number 0 if there was none yet."""
        heartbeat: Heartbeat | None = self._get(f"heartbeat {rank}")
        return heartbeat or Heartbeat()

    def why_closed(self, rank: int) -> str | None:
        """Why a rank closed its pipeline; None if it has not."""
        if not self.store.check([f"closed {rank}"]):
            return None
        return self.store.get(f"closed {rank}").decode("utf-8", "replace")

    def _get(self, key: str) -> Any:
        return pickle.loads(self.store.get(key)) if self.store.check([key]) else None

    def _key(self, rank: int) -> str:
        return f"answer {self.call} {rank}"


class _Search:
    """The wait for the answers to one call; looks at the ranks without one twice a second."""

    def __init__(self, store: AnswerStore, timeout: float):
        self.store = store
        self.deadline = Deadline(timeout)
        self.deadline.note([Begun()] * store.num_ranks)
        self.found: dict[int, Answer] = {}
        now = time.monotonic()
        self.heartbeats = [Heartbeat()] * store.num_ranks
        self.heard = [now] * store.num_ranks
        self.silent = set(range(store.num_ranks))
        self.closed: dict[int, str] = {}
        self.next_look = now

    def is_over(self) -> bool:
        """Whether to wait longer is of no use."""
        now = time.monotonic()
        if now >= self.next_look:
            self.next_look = now + _INTERVAL
            self.look()
        return bool(self.closed) or self.deadline.is_over()

    def look(self) -> None:
        """Read the answers that are there, and the heartbeats."""
        for rank in range(self.store.num_ranks):
            self._read_answer(rank)
            self._read_heartbeat(rank)
            if rank not in self.found and (why := self.store.why_closed(rank)) is not None:
                self._read_answer(rank)  # it may have answered, and closed, since the last line
                if rank not in self.found:
                    self.closed[rank] = why
        self.deadline.note([heartbeat.begun for heartbeat in self.heartbeats])
        if self.has_failure():
            self.deadline.end_within(_GRACE)

    def _read_answer(self, rank: int) -> None:
        if rank not in self.found and (answer := self.store.answer(rank)) is not None:
            self.found[rank] = answer

    def _read_heartbeat(self, rank: int) -> None:
        heartbeat = self.store.heartbeat(rank)
        now = time.monotonic()
        if heartbeat.number != self.heartbeats[rank].number:
            self.heard[rank] = now
            self.silent.discard(rank)
        elif now - self.heard[rank] > _SILENT:
            self.silent.add(rank)
        self.heartbeats[rank] = heartbeat

    def has_failure(self) -> bool:
        """Whether a rank has answered that it failed."""
        return any(isinstance(answer.content, Failure) for answer in self.found.values())

    def answers(self, is_store_gone: bool = False) -> Answers:
        """What was found, and what is known of the other ranks."""
        missing = [rank for rank in range(self.store.num_ranks) if rank not in self.found]
        absent = {rank: self._absent(rank, is_store_gone) for rank in missing}
        return Answers(self.found, absent, [heartbeat.begun for heartbeat in self.heartbeats])

    def _absent(self, rank: int, is_store_gone: bool) -> Absent:
        if (why := self.closed.get(rank)) is not None:
            return Absent(State.CLOSED, reason=why)
        is_silent = rank in self.silent or is_store_gone
        return Absent(State.SILENT if is_silent else State.ALIVE)


def _connect(name: str) -> Store:
    store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=60)))
    return PrefixStore(name, store)


def _set(store: Store, key: str, value: object) -> None:
    store.set(key, pickle.dumps(value))  # type: ignore[arg-type]  # bytes are fine

"""What torchrun's ranks pin up for all to read, in the store that torchrun keeps.

There is no parent that hears of everything. After each call every rank pins up a note: its answer,
or its last words. Nobody goes on before all notes are there, or somebody's end is certain: so all
ranks see the same answers, and the same cause of an error. Meanwhile a thread tells twice a second
that the process lives, and where it is: that outlives a rank that hangs.
"""

import pickle
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from pipelab.action import Action
from pipelab.engine.protocol.commands import Done, Failed

_BEAT = 0.5  # seconds between two signs of life
_SILENT = 4 * _BEAT  # without one for so long, a process is gone
_GRACE = 3.0  # seconds for the last words of the others, once one has failed

Where = tuple[int, Action | None]  # how many actions a rank has begun, and the last of them


class Life(NamedTuple):
    """The last sign of life of a rank: the how manieth, and where it was."""

    number: int
    where: Where
    left: str | None = None  # it closed its pipeline, and why
    silent: bool = False  # none has come for a while


@dataclass(frozen=True)
class Note:
    """What one rank pins up after a call.

    ``answer``: a number of bytes stands for an answer too large for the store. ``asked``: the kind
    of call, and a checksum of its data. ``now`` and ``clock_error``: seconds on this rank's clock.
    """

    answer: Done | Failed | int
    asked: tuple[str, int]
    now: float = 0.0
    clock_error: float = 0.0


class Round(NamedTuple):
    """The notes of one call, by rank; for ranks without one, the last sign of life."""

    notes: dict[int, Note]
    missing: dict[int, Life | None]


class Board:
    """One rank's view of the notes and the signs of life.

    Args:
        where: asked by the thread that tells of this rank.
    """

    store: Store

    def __init__(self, rank: int, num_ranks: int, where: Callable[[], Where]):
        self.rank, self.num_ranks, self.where = rank, num_ranks, where
        self.round = 0
        self._quiet = threading.Event()

    def open(self, name: str) -> None:
        """Find the store, and live. ``name``: the same on all ranks, new for each pipeline."""
        self.store, own = _connect(name), _connect(name)
        threading.Thread(target=self._live, args=(own,), daemon=True).start()

    def _live(self, store: Store) -> None:
        """Give signs of life, on a connection of its own: the other may be busy."""
        number = 0
        with suppress(RuntimeError):  # the store is gone: nobody is left to hear
            while not self._quiet.is_set():
                number += 1
                _set(store, f"life {self.rank}", Life(number, self.where()))
                self._quiet.wait(_BEAT)

    def leave(self, why: str) -> None:
        """Tell the others that this rank takes part no more."""
        self._quiet.set()
        with suppress(RuntimeError, AttributeError):  # the store is gone, or was never found
            self.store.set(f"left {self.rank}", why)

    def share(self, value: object) -> list[Any]:
        """Give a value and get those of all ranks, once, at the start.

        Raises:
            RuntimeError: not all came within the store's time.
        """
        _set(self.store, f"share {self.rank}", value)
        keys = [f"share {rank}" for rank in range(self.num_ranks)]
        return [pickle.loads(text) for text in self.store.multi_get(keys)]

    def pin(self, note: Note) -> None:
        """Pin up this rank's note; the one before the last has been read by all: it goes."""
        self.round, self.own = self.round + 1, note
        with suppress(RuntimeError):  # the store is gone: ``read`` finds that out, too
            _set(self.store, self._key(self.rank), note)
            if self.round > 2:
                self.store.delete_key(f"note {self.round - 2} {self.rank}")

    def read(self, patience: float) -> Round:
        """All notes of this call; some are missing only where a rank has ended, or hangs.

        ``patience``: seconds for which none of the missing ranks may begin anything.
        """
        watch = _Watch(self, patience)
        try:
            return self._read(watch)
        except RuntimeError:  # the store is gone, and with it the machine of rank 0, or its agent
            lives = {r: watch.lives[r] for r in watch.missing if r != self.rank}
            silent = {r: life and life._replace(silent=True) for r, life in lives.items()}
            return Round({**watch.notes, self.rank: self.own}, silent)

    def _read(self, watch: "_Watch") -> Round:
        keys, began = [self._key(rank) for rank in range(self.num_ranks)], time.monotonic()
        while not self.store.check(keys):
            if watch.is_over():
                return Round(watch.notes, {rank: watch.lives[rank] for rank in watch.missing})
            time.sleep(min(0.02, max(0.0002, 0.05 * (time.monotonic() - began))))  # 5 % late
        texts = self.store.multi_get(keys)
        return Round({rank: pickle.loads(text) for rank, text in enumerate(texts)}, {})

    def note(self, rank: int) -> Note | None:
        """A rank's note of this round, if it is there."""
        note: Note | None = self._get(self._key(rank))
        return note

    def life(self, rank: int) -> Life | None:
        """The last sign of life of a rank; None if there was none yet."""
        life: Life | None = self._get(f"life {rank}")
        if self.store.check([f"left {rank}"]):
            why = self.store.get(f"left {rank}").decode("utf-8", "replace")
            life = (life or Life(0, (0, None)))._replace(left=why)
        return life

    def _get(self, key: str) -> Any:
        return pickle.loads(self.store.get(key)) if self.store.check([key]) else None

    def _key(self, rank: int) -> str:
        return f"note {self.round} {rank}"


class _Watch:
    """A deadline that moves while any rank without a note makes progress."""

    def __init__(self, board: Board, patience: float):
        self.board, self.patience = board, patience
        self.notes: dict[int, Note] = {}
        self.missing = [*range(board.num_ranks)]
        self.lives: dict[int, Life | None] = dict.fromkeys(self.missing)
        self.heard = dict.fromkeys(self.missing, time.monotonic())
        self.next_look = self.moved = time.monotonic()
        self.last = float("inf")

    def is_over(self) -> bool:
        """Whether waiting is of no use any more; looks twice a second."""
        now = time.monotonic()
        if now < self.next_look:
            return False
        self.next_look = now + _BEAT
        found = {rank: self.board.note(rank) for rank in self.missing}
        self.notes.update((rank, note) for rank, note in found.items() if note is not None)
        self.missing = [rank for rank, note in found.items() if note is None]
        for rank in self.missing:
            self._look_at(rank, now)
        if any(isinstance(note.answer, Failed) for note in self.notes.values()):
            self.last = min(self.last, now + _GRACE)  # the others have a moment left
        left = any(life is not None and life.left is not None for life in self.lives.values())
        return left or now > min(self.last, self.moved + self.patience)

    def _look_at(self, rank: int, now: float) -> None:
        before, life = self.lives[rank], self.board.life(rank)
        if life is None:
            return
        if before is None or life.number != before.number:
            self.heard[rank] = now
        if before is None or life.where[0] != before.where[0]:
            self.moved = now
        self.lives[rank] = life._replace(silent=now - self.heard[rank] > _SILENT)


def _connect(name: str) -> Store:
    store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=60)))
    return PrefixStore(name, store)


def _set(store: Store, key: str, value: object) -> None:
    store.set(key, pickle.dumps(value))  # type: ignore[arg-type]  # bytes are fine

"""Idle time in words: whom a rank waits for, in a sentence and in shorter forms."""

from collections.abc import Sequence
from typing import NamedTuple

from pipelab.trace.idle import Idle
from pipelab.trace.links import Node
from pipelab.words import REASONS


class IdleText(NamedTuple):
    """One piece of idle time in words, without the rank's name.

    Attributes:
        sentence: such as ``"waits for 1F3 of rank 1, held up by rank 0"``.
        labels: shorter forms for narrow boxes, the longest first, such as ``"waits for 1F3"``.
    """

    sentence: str
    labels: tuple[str, ...] = ()


def idle_texts(rows: Sequence[Sequence[Node]], pieces: Sequence[Idle]) -> list[IdleText]:
    """The text of each piece of ``explained(trace, rows)``, in the same order."""
    following = [0] * len(rows)  # pieces come in order of time, so each row is read once
    texts = []
    for piece in pieces:
        row, at = rows[piece.rank], following[piece.rank]
        while at < len(row) and row[at].event.start < piece.end:
            at += 1
        following[piece.rank] = at
        texts.append(_text(piece, row[at].producer if at < len(row) else None))
    return texts


def _text(piece: Idle, producer: Node | None) -> IdleText:
    if producer is None or piece.reason not in ("waiting", "imbalance", "message"):
        return IdleText(REASONS[piece.reason].rank)
    token, rank = producer.token, producer.event.rank
    if piece.reason == "message":
        text = f"waits for the message with {token} from rank {piece.peer}"
        return IdleText(text, (f"message with {token}",))
    text = f"waits for {token} of rank {rank}"
    if piece.reason == "imbalance":
        text += f": rank {piece.root} has more work"
    elif piece.root is not None and piece.root != rank:
        text += f", held up by rank {piece.root}"
    return IdleText(text, (f"waits for {token}", f"waits: {token}"))

"""What all ranks of torchrun's say of a call that failed: one cause, the same on each of them."""

from pipelab.engine.failures.words import failed
from pipelab.engine.protocol.commands import Failed
from pipelab.engine.torchrun.store import Life, Note, Round
from pipelab.errors import RankDied, RankError, RankTimeout

_WHEN = "between actions"
_SAME = "Under torchrun every process runs the whole script: "


def verdict(found: Round, timeout: float) -> RankError | None:
    """The cause of a failure, not a neighbour's complaint about it; None if all went well."""
    reports = {r: n.answer for r, n in sorted(found.notes.items()) if isinstance(n.answer, Failed)}
    if not reports and not found.missing:
        return _unlike(found.notes)
    causes = [rank for rank, report in reports.items() if not report.echo]
    return (
        _unlike(found.notes)
        or (failed(causes[0], reports[causes[0]], _WHEN) if causes else None)
        or _absent(found.missing, timeout)
        or failed(*next(iter(reports.items())), _WHEN)
    )


def _unlike(notes: dict[int, Note]) -> RankError | None:
    """Processes that were not asked the same."""
    first = min(notes)
    kind, checksum = notes[first].asked
    for rank, note in sorted(notes.items()):
        other, other_checksum = note.asked
        if other != kind:
            return RankError(
                f"rank {rank} was asked to {_WORDS[other]} when rank {first} was asked to "
                f"{_WORDS[kind]}.\n{_SAME}let all make the same calls in the same order, also\n"
                f"where only one of them prints what comes of it.",
                rank,
            )
        if other_checksum != checksum:
            return RankError(
                f"rank {rank} has another {_DATA[kind]} than rank {first}.\n{_SAME}let all make "
                f"the same data and models; seed them\n(torch.manual_seed(0)), and shard nothing "
                f"by rank.",
                rank,
            )
    return None


_WORDS = {
    "Build": "open a pipeline",
    "Use": "use a schedule",
    "Run": "run a batch",
    "Fetch": "give its state or gradients",
    "Load": "load a state",
}
_DATA = {
    "Build": "model, or device,",
    "Use": "schedule",
    "Run": "batch",
    "Fetch": "question",
    "Load": "state",
}


def _absent(missing: dict[int, Life | None], timeout: float) -> RankError | None:
    """Processes that left, died or hang."""
    for rank, life in missing.items():
        if life is not None and life.left is not None:
            return RankError(
                f"rank {rank} has left: its script closed the pipeline ({life.left}) while the "
                f"others went on.\n{_SAME}see what rank {rank} printed.",
                rank,
            )
    for rank, life in missing.items():
        if life is None or life.silent:
            return RankDied(
                f"rank {rank} is gone{_where(life)}: no sign of life. Its process was killed or "
                f"its machine\nis out of reach; torchrun on that machine says more. Signal 9 "
                f"often means that memory ran out.",
                rank,
                _token(life),
            )
    for rank, life in missing.items():
        return RankTimeout(
            f"rank {rank} gave no answer for {timeout:g} s (timeout={timeout:g}){_where(life)}, "
            f"but its process lives.\nLook for an endless loop there, or for a call that only the "
            f"other ranks make; or give a larger timeout.",
            rank,
            _token(life),
        )
    return None


def _token(life: Life | None) -> str | None:
    action = life.where[1] if life else None
    return action.token if action else None


def _where(life: Life | None) -> str:
    return f", last seen in {token}" if (token := _token(life)) else ""

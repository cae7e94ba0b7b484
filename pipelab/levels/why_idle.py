"""Why a bubble is there: what its rank waits for, what ran meanwhile, and what could run in it.

rank 0  │ 0F0 │ 0F1 │░░░░░░░░░░░░░░░░│ 0B0 │   needs 1B0; meanwhile 1F0, 2F0, 2B0, 1B0 ran, each
rank 1        │ 1F0 │           │ 1B0 │        after the one before. 0F2 could run here.
"""

from collections.abc import Container, Iterator
from typing import NamedTuple

from pipelab.action import Action, Kind, needs, produces
from pipelab.levels.level import Level
from pipelab.schedules import Schedule
from pipelab.trace import Trace
from pipelab.trace.idle import Idle, explained, idle_texts
from pipelab.trace.links import Node, link
from pipelab.words import REASONS, time_text

_MOST = 6  # tokens of a chain that are named
_NEAR = 1e-9  # seconds


class Why(NamedTuple):
    """One bubble in words.

    Attributes:
        text: what is waited for, and what could be done.
        tokens: those that the text is about, to be marked.
        at: seconds, in the middle of it.
    """

    text: str
    tokens: tuple[str, ...]
    at: float


def why_idle(level: Level, schedule: Schedule, trace: Trace, place: int) -> Why | None:
    """The bubble that is longest (place 0), second longest (1), ...; None without any.

    After the shortest the longest comes again. Where a rank has computed all, it comes last.

    Args:
        level: its limit decides what could run.
        schedule: what ran.
        trace: its prediction.
        place: which bubble.
    """
    rows = link(trace)
    found = _joined(explained(trace, rows))
    pieces = sorted(found, key=lambda piece: (piece.reason == "done", -piece.seconds))
    if not pieces:
        return None
    piece = pieces[place % len(pieces)]
    row = rows[piece.rank]
    node = next((node for node in row if node.event.start >= piece.end - _NEAR), None)
    kept = "" if len(pieces) == 1 else f"Bubble {place % len(pieces) + 1} of {len(pieces)}: "
    head = (
        f"{kept}rank {piece.rank} is idle for {time_text(piece.seconds)}, from "
        f"{time_text(piece.start) if piece.start else 'the start'} to {time_text(piece.end)}"
    )
    at = (piece.start + piece.end) / 2
    if node is None or node.producer is None:
        return Why(f"{head}: it {REASONS[piece.reason].rank}.", (), at)
    chain = _chain(node, piece.start)
    ran = ", ".join(each.token for each in chain)
    lines = [
        f"{head}. Next in its row is {node.token}, which needs {node.producer.token} of rank "
        f"{node.producer.event.rank}.",
        f"Meanwhile ran {ran}, each after the one before." if len(chain) > 1 else "",
        _could_do(level, schedule, piece, rows, node),
    ]
    tokens = (node.token, *(each.token for each in chain))
    return Why(" ".join(filter(None, lines)), tokens, at)


def awaited(trace: Trace, tokens: Container[str]) -> str:
    """The longest wait for one of these tokens, in words; "" where none is waited for."""
    rows = link(trace)
    pieces = explained(trace, rows)
    texts = idle_texts(rows, pieces)
    found = [(p.seconds, p.rank, t.token) for p, t in zip(pieces, texts, strict=True) if t.token]
    of_these = [each for each in found if each[2] in tokens]
    if not of_these:
        return ""
    seconds, rank, token = max(of_these)
    return f"rank {rank} waited {time_text(seconds)} for {token}, which now comes sooner"


def _joined(pieces: tuple[Idle, ...]) -> Iterator[Idle]:
    """Stretches of one rank that follow each other, such as a wait and its message, as one."""
    last: Idle | None = None
    for piece in pieces:
        if last and piece.rank == last.rank and abs(piece.start - last.end) < _NEAR:
            last = last._replace(end=piece.end)
            continue
        if last:
            yield last
        last = piece
    if last:
        yield last


def _chain(node: Node, start: float) -> list[Node]:
    """What ran from ``start`` until this action could begin, each needed by the next."""
    found: list[Node] = []
    step = node.producer
    while step is not None and step.event.end > start + _NEAR and len(found) < _MOST:
        found.append(step)
        step = step.producer if step.was_late else step.previous
    return found[::-1]


def _could_do(
    level: Level, schedule: Schedule, piece: Idle, rows: list[list[Node]], node: Node
) -> str:
    """Whether every order has it, or what could run in it."""
    here = f"rank {piece.rank}"
    if node.previous is None and node.event.kind is Kind.F and node.event.microbatch == 0:
        way = f"ranks 0 to {piece.rank - 1}" if piece.rank > 1 else "rank 0"
        return f"Some of it is in every order: the first microbatch has to pass {way}."
    ready = [*_could_run(level, schedule, piece, rows)]
    fits = [each for each in ready if each.kind is not Kind.F or _has_room(level, schedule, node)]
    if fits:
        names = " or ".join(action.token for action in fits[:3])
        return f"{names} could run here: what {'they need' if fits[1:] else 'it needs'} is there."
    root = node.root.event.rank
    look = f" Look at rank {root}, which holds it up." if root != piece.rank else ""
    if ready:
        return (
            f"{ready[0].token} would be ready, but {here} holds {level.limit} already, which is "
            f"the limit.{look}"
        )
    return f"Nothing else in the row of {here} is ready then.{look}"


def _has_room(level: Level, schedule: Schedule, node: Node) -> bool:
    """Whether the rank may hold one more activation before this action."""
    rank = node.event.rank
    row = schedule.ranks[rank]
    before = row[: [action.token for action in row].index(node.token)]
    held = sum((a.kind is Kind.F) - (a.kind in (Kind.B, Kind.W)) for a in before)
    most = (level.limit or level.num_microbatches) * len(schedule.stages_of(rank))
    return held < most


def _could_run(
    level: Level, schedule: Schedule, piece: Idle, rows: list[list[Node]]
) -> Iterator[Action]:
    """What stands later in the row of the idle rank, and whose inputs are there in time."""
    ends = {produces(_action(node)): node.event for row in rows for node in row}
    for node in rows[piece.rank]:
        if node.event.start <= piece.end + _NEAR:
            continue
        inputs = [ends[each] for each in needs(_action(node), schedule.num_stages)]
        there = [e.end + level.latency * (e.rank != piece.rank) for e in inputs]
        if max(there, default=piece.start) <= piece.start + _NEAR:
            yield _action(node)


def _action(node: Node) -> Action:
    return Action(node.event.stage, node.event.kind, node.event.microbatch)

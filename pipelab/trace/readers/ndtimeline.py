"""ndtimeline's files (veScale; StragglerAnalysis, Lin et al. 2025, arXiv 2505.05713).

            StragglerAnalysis                         veScale
    pid     replica                                   replica
    tid     5 x rank + lane                           10 x rank + lane
    args    step, mb_id, model_chunk, seq_id          step, rank, tp, pp
    name    forward-compute, backward-send, forward-send-backward-recv, optimizer, ...

Which rank of the pipeline a tid is: args say it (``pp``), or ``thread_name`` does ("PP rank 1, TP
rank 0, compute"). Without both, the ranks of a replica are numbered in order of the tids that
compute. Messages name no microbatch: carried.py. Where no step, chunk or microbatch is named, the
order numbers them: a microbatch that comes again on the same lane is the next step's, or within a
step the next chunk's.
"""

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from pipelab.action import COMPUTE, PER_STAGE, Kind
from pipelab.trace.event import Event
from pipelab.trace.readers.carried import Layout, Moved, carried
from pipelab.trace.readers.gathered import DEVICE_TIME, Gathered, StepKey
from pipelab.trace.readers.numbering import Row, numbered
from pipelab.trace.readers.stream import EventFile, Json, arguments, first_whole, number, whole

_STEPS = ("step", "global_step", "iteration", "iter")
_MICROBATCHES = ("mb_id", "microbatch_id", "microbatch")
_CHUNKS = ("model_chunk", "chunk_id", "chunk", "mc")
_PIPELINE = ("pp", "pp_rank")
_TENSOR = ("tp", "tp_rank")
_KINDS = {
    "forward-compute": (Kind.F,),
    "backward-compute": (Kind.B,),
    "backward-input-compute": (Kind.I,),
    "backward-weight-compute": (Kind.W,),
    "backward-wgrad-compute": (Kind.W,),
    "forward-send": (Kind.SEND_F,),
    "forward-recv": (Kind.RECV_F,),
    "backward-send": (Kind.SEND_B,),
    "backward-recv": (Kind.RECV_B,),
    "forward-send-backward-recv": (Kind.SEND_F, Kind.RECV_B),
    "backward-send-forward-recv": (Kind.SEND_B, Kind.RECV_F),
    "forward-send-forward-recv": (Kind.SEND_F, Kind.RECV_F),
    "backward-send-backward-recv": (Kind.SEND_B, Kind.RECV_B),
    "grads-reduce-scatter": (Kind.REDUCE_GRAD,),
    "grad-reduce-scatter": (Kind.REDUCE_GRAD,),
    "grads-all-reduce": (Kind.REDUCE_GRAD,),
    "grad-all-reduce": (Kind.REDUCE_GRAD,),
    "optimizer": (Kind.STEP,),
}
_OTHERS = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+|gc")  # names of this form that are no action of ours
_PLACE = re.compile(r"PP rank (\d{1,6})(?:, TP rank (\d{1,6}))?")


@lru_cache(maxsize=4096)
def _kinds_of(name: str) -> tuple[Kind, ...]:
    """What an event of this name is; also as ``Forward compute`` or ``forward_compute``."""
    return _KINDS.get(name) or _KINDS.get(re.sub(r"[_\s]+", "-", name.lower()), ())


class Ndtimeline:
    """Collects what the files of this form hold."""

    form = "ndtimeline"
    expected = "ndtimeline's events (forward-compute, backward-compute, ...)"

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.places: dict[tuple[int, int], _Place] = {}  # by (pid, tid)
        self.others: Counter[str] = Counter()
        self.pids: dict[str, int] = {}  # that are no numbers
        self.begun: dict[tuple[object, object, str], list[Json]] = {}  # by pid, tid and name

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, name: str, event: Json) -> None:
        """One event of a file."""
        if kinds := _kinds_of(name):
            self._take_row(kinds, event)
        elif name == "thread_name" and event.get("ph") == "M":
            if match := _PLACE.search(str(arguments(event).get("name"))):
                place = _Place(int(match[1]), int(match[2] or 0))
                self.places[self._replica(event), whole(event.get("tid"), 0)] = place
        elif event.get("ph") == "X" and event.get("cat") == name and _OTHERS.fullmatch(name):
            self.others[name] += 1

    def _take_row(self, kinds: tuple[Kind, ...], event: Json) -> None:
        phase = event.get("ph", "X")
        if phase in ("B", "E"):  # an event in two halves
            begun = self.begun.setdefault(
                (event.get("pid"), event.get("tid"), str(event.get("name"))), []
            )
            if phase == "B":
                begun.append(event)
                return
            if not begun:
                return
            first = begun.pop()
            event = {**first, "dur": number(event, "ts") - number(first, "ts")}
        elif phase != "X":
            return
        args = arguments(event)
        start = number(event, "ts") / 1e6
        end = start + number(event, "dur", 0.0) / 1e6
        key = StepKey(first_whole(args, _STEPS), self._replica(event))
        tid = whole(event.get("tid"), 0)
        if (rank := first_whole(args, _PIPELINE)) >= 0:
            self.places[key.replica, tid] = _Place(rank, first_whole(args, _TENSOR, 0))
        chunk, microbatch = first_whole(args, _CHUNKS), first_whole(args, _MICROBATCHES)
        self.rows += [Row(key, tid, kind, chunk, microbatch, start, end) for kind in kinds]

    def _replica(self, event: Json) -> int:
        """The pid; where that is a name, the number of names before it."""
        pid = event.get("pid")
        number = whole(pid)
        return number if number >= 0 else self.pids.setdefault(str(pid), len(self.pids))

    def end_file(self, file: EventFile) -> None:
        """Several files of this form hold parts of one job."""

    def gathered(self) -> Gathered:
        """All steps of all replicas."""
        ranks, notes = self._ranks()
        self.rows, without = numbered(self.rows)
        if without:
            notes.append(f"{without} events name no step, others do: left out")
        rows: dict[StepKey, dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
        for row in self.rows:
            rank = ranks.get((row.key.replica, row.tid))
            if rank is not None:
                rows[row.key][rank].append(row)
        num_ranks = max(ranks.values(), default=0) + 1
        chunks = 1 + max((row.chunk for row in self.rows), default=0)
        layout = Layout(num_ranks, chunks, _folds_in_a_v(rows, num_ranks))
        steps: dict[StepKey, list[Event]] = {}
        unmatched = 0
        for key, by_rank in rows.items():
            steps[key] = []
            for rank, own in sorted(by_rank.items()):
                events, lost = _rank_events(rank, own, layout)
                steps[key] += events
                unmatched += lost
        if unmatched:
            notes.append(
                f"{unmatched} messages left out: their number does not fit that of the results"
            )
        if self.others:
            names = ", ".join(f"{count} {name}" for name, count in sorted(self.others.items()))
            notes.append(f"not read: {names}")
        notes.append("the file holds no memory and no waits: idle time is explained by what ran")
        replicas = len({key.replica for key in steps})
        steps = _from_zero(steps)
        return Gathered(self.form, DEVICE_TIME, steps, notes, replicas=replicas)

    def _ranks(self) -> tuple[dict[tuple[int, int], int], list[str]]:
        """(replica, tid) -> rank of the pipeline: of each, the lowest tensor-parallel rank."""
        seen = sorted({(row.key.replica, row.tid) for row in self.rows})
        unnamed = self._by_order()
        places = {key: self.places.get(key) or unnamed.get(key) for key in seen}
        first: dict[tuple[int, int], int] = {}
        for (replica, _), place in places.items():
            if place:
                at = replica, place.rank
                first[at] = min(place.tensor, first.get(at, place.tensor))
        found, others = {}, set()
        for (replica, tid), place in places.items():
            if place and first[replica, place.rank] == place.tensor:
                found[replica, tid] = place.rank
            elif place:
                others.add((replica, place))
        named = any(key in self.places for key in seen)
        notes = [] if named else ["nothing says which rank is which: numbered by their tid"]
        if others:
            count = len(others)
            notes.append(f"{count} further tensor-parallel ranks are there: one of each is read")
        return found, notes

    def _by_order(self) -> dict[tuple[int, int], "_Place"]:
        """The place of each tid: those of a replica that compute are its ranks, in order.

        What does not compute belongs to the one before it: a rank's other lanes follow.
        """
        computing: dict[int, set[int]] = defaultdict(set)
        for row in self.rows:
            if row.kind in COMPUTE:
                computing[row.key.replica].add(row.tid)
        ordered = {replica: sorted(tids) for replica, tids in computing.items()}
        return {
            (row.key.replica, row.tid): _Place(at - 1, 0)
            for row in self.rows
            if (at := bisect_right(ordered.get(row.key.replica, []), row.tid))
        }


class _Place(NamedTuple):
    """Which rank of its pipeline, and of its tensor-parallel group, a tid is."""

    rank: int
    tensor: int


def _folds_in_a_v(rows: dict[StepKey, dict[int, list[Row]]], num_ranks: int) -> bool:
    """Whether chunk 1 goes back from the last rank to the first, as in ZB-V and DualPipeV."""
    votes = 0
    for by_rank in rows.values():
        first = {}
        for rank in (0, num_ranks - 1):
            own = [r for r in by_rank.get(rank, []) if r.kind is Kind.F and r.chunk == 1]
            first[rank] = min((r.start for r in own), default=0.0)
        votes += 1 if first[num_ranks - 1] < first[0] else -1
    return votes > 0


def _rank_events(rank: int, rows: list[Row], layout: Layout) -> tuple[list[Event], int]:
    """One rank's events of one step, and the number of messages that fit no result."""
    rows.sort(key=lambda row: row.start)
    computed = [*_computed(rank, rows, layout)]
    moved = [Moved(row.kind, row.start, row.end) for row in rows]
    messages, lost = carried(computed, moved, layout)
    once = [
        Event(rank, row.kind, layout.stage(rank, row.chunk), None, row.start, row.end)
        for row in rows
        if row.kind in PER_STAGE
    ]
    return [*computed, *messages, *once], lost


def _computed(rank: int, rows: Iterable[Row], layout: Layout) -> Iterator[Event]:
    """Its computations; microbatches are numbered by order where ``mb_id`` is no such number.

    A backward whose weights' part is there by itself is the part for the input.
    """
    order: Counter[tuple[Kind, int]] = Counter()
    rows = [row for row in rows if row.kind in COMPUTE]
    by_order = _counts_otherwise(rows)
    numbered = []
    for row in rows:
        at = order[row.kind, row.chunk]
        order[row.kind, row.chunk] += 1
        numbered.append(row._replace(microbatch=at) if by_order else row)
    apart = {(row.chunk, row.microbatch) for row in numbered if row.kind is Kind.W}
    for row in numbered:
        halved = row.kind is Kind.B and (row.chunk, row.microbatch) in apart
        kind, stage = Kind.I if halved else row.kind, layout.stage(rank, row.chunk)
        yield Event(rank, kind, stage, row.microbatch, row.start, row.end)


def _counts_otherwise(rows: Iterable[Row]) -> bool:
    """Whether ``mb_id`` is missing, or counts through all chunks, so that none shares a number."""
    numbers: dict[int, set[int]] = defaultdict(set)
    for row in rows:
        if row.kind is Kind.F:
            numbers[row.chunk].add(row.microbatch)
        if row.microbatch < 0:
            return True
    first = numbers.get(0, set())
    return any(first and not first & other for chunk, other in numbers.items() if chunk)


def _from_zero(steps: Mapping[StepKey, list[Event]]) -> dict[StepKey, list[Event]]:
    """Microbatches numbered 0, 1, 2, ... where a step's own numbers are 1, 2, 3 or 7, 11, 15.

    Numbers with other distances stay: one of them was lost.
    """
    found = {}
    for key, events in steps.items():
        numbers = sorted({e.microbatch for e in events if e.microbatch is not None})
        distances = {b - a for a, b in pairwise(numbers)}
        if len(distances) > 1 or (numbers[:1] == [0] and distances == {1}):
            found[key] = events
            continue
        new = {number: i for i, number in enumerate(numbers)}
        found[key] = [
            e if e.microbatch is None else e._replace(microbatch=new[e.microbatch]) for e in events
        ]
    return found

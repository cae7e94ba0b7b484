"""ndtimeline's files (veScale; StragglerAnalysis, Lin et al. 2025, arXiv 2505.05713).

    pid   replica                       name   forward-compute, backward-send, optimizer, ...
    tid   5 x rank + lane               args   step, mb_id (microbatch), model_chunk, seq_id

``thread_name`` says which rank of the pipeline a tid is: "PP rank 1, TP rank 0, compute". Without
it, the ranks of a replica are numbered in order of their tid. Messages name no microbatch: the
n-th that a rank sends carries the n-th result that leaves it.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipelab.action import COMPUTE, PER_STAGE, SENDS, Kind
from pipelab.trace.event import Event
from pipelab.trace.readers.gathered import DEVICE_TIME, Gathered, StepKey
from pipelab.trace.readers.stream import EventFile, Json, arguments, first_whole, number, whole

_LANES = 5
_STEPS = ("step", "global_step", "iteration", "iter")
_MICROBATCHES = ("mb_id", "microbatch_id", "microbatch")
_CHUNKS = ("model_chunk", "chunk_id", "chunk")
_KINDS = {
    "forward-compute": Kind.F,
    "backward-compute": Kind.B,
    "backward-input-compute": Kind.I,
    "backward-weight-compute": Kind.W,
    "forward-send": Kind.SEND_F,
    "forward-recv": Kind.RECV_F,
    "backward-send": Kind.SEND_B,
    "backward-recv": Kind.RECV_B,
    "grads-reduce-scatter": Kind.REDUCE_GRAD,
    "optimizer": Kind.STEP,
}
_OTHERS = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+|gc")  # names of this form that are no action of ours
_PLACE = re.compile(r"PP rank (\d{1,6})(?:, TP rank (\d{1,6}))?")
_CARRIES = {
    Kind.SEND_F: (Kind.F,),
    Kind.RECV_F: (Kind.F,),
    Kind.SEND_B: (Kind.B, Kind.I),
    Kind.RECV_B: (Kind.B, Kind.I),
}


class _Row(NamedTuple):
    """One event as the file has it; times in seconds."""

    key: StepKey
    tid: int
    kind: Kind
    chunk: int
    microbatch: int
    start: float
    end: float


class Ndtimeline:
    """Collects what the files of this form hold."""

    form = "ndtimeline"
    expected = "ndtimeline's events (forward-compute, backward-compute, ...)"

    def __init__(self) -> None:
        self.rows: list[_Row] = []
        self.places: dict[tuple[int, int], tuple[int, int]] = {}  # (pid, tid): PP and TP rank
        self.others: Counter[str] = Counter()
        self.pids: dict[str, int] = {}  # that are no numbers

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, name: str, event: Json) -> None:
        """One event of a file."""
        if kind := _KINDS.get(name):
            self._take_row(kind, event)
        elif name == "thread_name" and event.get("ph") == "M":
            if match := _PLACE.search(str(arguments(event).get("name"))):
                place = int(match[1]), int(match[2] or 0)
                self.places[self._replica(event), whole(event.get("tid"), 0)] = place
        elif event.get("ph") == "X" and event.get("cat") == name and _OTHERS.fullmatch(name):
            self.others[name] += 1

    def _take_row(self, kind: Kind, event: Json) -> None:
        if event.get("ph", "X") != "X":
            return
        args = arguments(event)
        start = number(event, "ts") / 1e6
        self.rows.append(
            _Row(
                StepKey(first_whole(args, _STEPS, 0), self._replica(event)),
                whole(event.get("tid"), 0),
                kind,
                first_whole(args, _CHUNKS, 0),
                first_whole(args, _MICROBATCHES),
                start,
                start + number(event, "dur", 0.0) / 1e6,
            )
        )

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
        rows: dict[StepKey, dict[int, list[_Row]]] = defaultdict(lambda: defaultdict(list))
        for row in self.rows:
            rank = ranks.get((row.key.replica, row.tid // _LANES))
            if rank is not None:
                rows[row.key][rank].append(row)
        num_ranks = max(ranks.values(), default=0) + 1
        layout = _Layout(num_ranks, self._chunks(), _folds_in_a_v(rows, num_ranks))
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
        return Gathered(self.form, DEVICE_TIME, steps, notes, replicas=replicas)

    def _chunks(self) -> int:
        return 1 + max((row.chunk for row in self.rows), default=0)

    def _ranks(self) -> tuple[dict[tuple[int, int], int], list[str]]:
        """(replica, tid // 5) -> rank of the pipeline: of each, the lowest tensor-parallel rank."""
        seen = sorted({(row.key.replica, row.tid // _LANES) for row in self.rows})
        places = {(pid, tid // _LANES): place for (pid, tid), place in self.places.items()}
        found: dict[tuple[int, int], int] = {}
        taken: dict[tuple[int, int], int] = {}
        doubles = 0
        for replica, job_rank in seen:
            order = [other for pid, other in seen if pid == replica]
            rank, tensor = places.get((replica, job_rank), (order.index(job_rank), 0))
            if taken.setdefault((replica, rank), tensor) == tensor:
                found[replica, job_rank] = rank
            else:
                doubles += 1
        notes = [] if places else ["no thread_name says which rank is which: numbered by their tid"]
        if doubles:
            notes.append(f"{doubles} further tensor-parallel ranks are there: one of each is read")
        return found, notes


def _folds_in_a_v(rows: dict[StepKey, dict[int, list[_Row]]], num_ranks: int) -> bool:
    """Whether chunk 1 goes back from the last rank to the first, as in ZB-V and DualPipeV."""
    votes = 0
    for by_rank in rows.values():
        first = {}
        for rank in (0, num_ranks - 1):
            own = [r for r in by_rank.get(rank, []) if r.kind is Kind.F and r.chunk == 1]
            first[rank] = min((r.start for r in own), default=0.0)
        votes += 1 if first[num_ranks - 1] < first[0] else -1
    return votes > 0


class _Layout(NamedTuple):
    """Which stages a rank holds: in a loop, or folded in a V."""

    num_ranks: int
    chunks: int
    is_v: bool

    def stage(self, rank: int, chunk: int) -> int:
        """The stage that is this chunk of a rank."""
        if self.is_v and chunk % 2:
            return (chunk + 1) * self.num_ranks - 1 - rank
        return chunk * self.num_ranks + rank

    def home(self, stage: int) -> int:
        """The rank of a stage."""
        chunk, place = divmod(stage, self.num_ranks)
        return self.num_ranks - 1 - place if self.is_v and chunk % 2 else place

    def peer(self, event: Event, toward: int) -> int | None:
        """The rank of the stage before or after; None if there is none, or it is the same."""
        other = event.stage + toward
        if not 0 <= other < self.chunks * self.num_ranks or self.home(other) == event.rank:
            return None
        return self.home(other)


def _rank_events(rank: int, rows: list[_Row], layout: _Layout) -> tuple[list[Event], int]:
    """One rank's events of one step, and the number of messages that fit no result."""
    rows.sort(key=lambda row: row.start)
    computed = [*_computed(rank, rows, layout)]
    events, lost = [*computed], 0
    for kind in _CARRIES:
        own = [row for row in rows if row.kind is kind]
        results = _carried(kind, computed, layout)
        if len(own) != len(results):
            lost += len(own)
            continue
        for row, (e, peer) in zip(own, results, strict=True):
            events.append(Event(rank, kind, e.stage, e.microbatch, row.start, row.end, peer=peer))
    for row in rows:
        if row.kind in PER_STAGE:
            stage = layout.stage(rank, row.chunk)
            events.append(Event(rank, row.kind, stage, None, row.start, row.end))
    return events, lost


def _computed(rank: int, rows: Iterable[_Row], layout: _Layout) -> Iterator[Event]:
    """Its computations; microbatches are numbered by order where ``mb_id`` is no such number."""
    order: Counter[tuple[Kind, int]] = Counter()
    rows = [row for row in rows if row.kind in COMPUTE]
    by_order = _counts_otherwise(rows)
    for row in rows:
        at = order[row.kind, row.chunk]
        order[row.kind, row.chunk] += 1
        number = at if by_order else row.microbatch
        yield Event(rank, row.kind, layout.stage(rank, row.chunk), number, row.start, row.end)


def _counts_otherwise(rows: Iterable[_Row]) -> bool:
    """Whether ``mb_id`` is missing, or counts through all chunks, so that none shares a number."""
    numbers: dict[int, set[int]] = defaultdict(set)
    for row in rows:
        if row.kind is Kind.F:
            numbers[row.chunk].add(row.microbatch)
        if row.microbatch < 0:
            return True
    first = numbers.get(0, set())
    return any(first and not first & other for chunk, other in numbers.items() if chunk)


def _carried(kind: Kind, computed: Iterable[Event], layout: _Layout) -> list[tuple[Event, int]]:
    """What a rank's messages of one kind carry, in their order, and the other rank of each."""
    toward = 1 if kind in (Kind.SEND_F, Kind.RECV_B) else -1
    found = [
        (e, peer)
        for e in computed
        if e.kind in _CARRIES[kind] and (peer := layout.peer(e, toward)) is not None
    ]
    if kind in SENDS:
        found.sort(key=lambda row: row[0].end)
    return found

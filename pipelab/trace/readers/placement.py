"""Which files are ranks of one pipeline, and which rank of it each is.

    rank0 (stages 0, 4)   rank1 (1, 5)   rank2 (2, 6)   rank3 (3, 7)    one pipeline of 4 ranks
    rank4 (stages 0, 4)   rank5 (1, 5)   ...                            its second replica

By the job's own process group ("mesh_pp") where it is named; else files with the same stages are
copies of the same rank. Where ranges name no stage (GPipe, 1F1B), a rank's place is its stage.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipelab.action import COMPUTE, Kind
from pipelab.trace.event import Event
from pipelab.trace.readers.gathered import StepKey

Steps = dict[int, list[Event]]
_TOWARD = {Kind.SEND_F: 1, Kind.RECV_F: -1, Kind.SEND_B: -1, Kind.RECV_B: 1}


@dataclass
class RankFile:
    """One rank's file.

    Attributes:
        path: where it is: files of one folder are one capture.
        rank: of the whole job, as torchrun counts.
        pipeline: the job's ranks that are one pipeline with this one; empty if not known.
        host: whose clock it has; empty if not known.
        events: microseconds of the file's clock, all with rank 0.
        windows: start, end and number of each ProfilerStep, in order.
        base: nanoseconds at the zero of its clock.
        zero: the same in seconds, from the earliest file's on.
        world_size: how many ranks the job had; 0 if not known.
        on_device: whether its times are the GPU's.
        names_stages: whether it says of what stage each action is.
        is_numbered: whether it says of what microbatch each action is.
    """

    path: Path
    rank: int
    pipeline: tuple[int, ...]
    host: str
    events: list[Event]
    windows: list[tuple[float, float, int]]
    base: int = 0
    on_device: bool = False
    names_stages: bool = True
    is_numbered: bool = True
    zero: float = 0.0
    world_size: int = 0
    stages: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        self.stages = frozenset(e.stage for e in self.events if e.kind in COMPUTE)


Placed = tuple[dict[StepKey, list[Event]], dict[tuple[int, int], str], list[str], int]


def placed(files: Sequence[RankFile], steps: Sequence[Steps]) -> Placed:
    """Steps with ranks and peers; hosts by replica and rank; notes; the number of replicas."""
    notes: list[str] = []
    found: dict[StepKey, list[Event]] = defaultdict(list)
    hosts: dict[tuple[int, int], str] = {}
    replicas = 1
    captures: dict[Path, list[int]] = defaultdict(list)
    for i, file in enumerate(files):
        captures[file.path.parent].append(i)
    later = 0  # steps of earlier captures with the same numbers
    for folder in sorted(captures):
        own = _one_each(files, captures[folder], notes)
        world = max(files[i].world_size for i in own)
        if len(own) < world:
            notes.append(f"files of {len(own)} of the job's {world} ranks")
        places = _places([files[i] for i in own])
        replicas = max(replicas, 1 + max(replica for replica, _ in places))
        numbers = {number for i in own for number in steps[i]}
        shift = later if any((n, 0) in {(k.step, 0) for k in found} for n in numbers) else 0
        for i, (replica, rank) in zip(own, places, strict=True):
            if files[i].host:
                hosts[replica, rank] = files[i].host
            for number, events in steps[i].items():
                stage = None if files[i].names_stages else rank
                found[StepKey(number + shift, replica)] += [_at(e, rank, stage) for e in events]
        later = 1 + max((key.step for key in found), default=-1)
    return {key: _with_peers(row) for key, row in found.items()}, hosts, notes, replicas


def _one_each(files: Sequence[RankFile], own: Sequence[int], notes: list[str]) -> list[int]:
    """The first file of each rank, in order of rank."""
    first: dict[int, int] = {}
    for i in own:
        if files[i].rank in first:
            kept = files[first[files[i].rank]].path
            notes.append(f"rank {files[i].rank} is there twice: {files[i].path.name} is not read, "
                         f"{kept.name} is")  # fmt: skip
        else:
            first[files[i].rank] = i
    return [first[rank] for rank in sorted(first)]


def _places(files: Sequence[RankFile]) -> list[tuple[int, int]]:
    """(replica, rank of its pipeline) of each file; files in order of the job's rank."""
    if all(file.pipeline and file.rank in file.pipeline for file in files):
        pipelines = sorted({file.pipeline for file in files})
        return [(pipelines.index(f.pipeline), f.pipeline.index(f.rank)) for f in files]
    if not all(file.names_stages for file in files):
        return _by_receives(files)
    ranks = _ranks(files)
    copies: dict[frozenset[int], int] = defaultdict(int)
    places = []
    for file in files:
        places.append((copies[file.stages], ranks[file.stages]))
        copies[file.stages] += 1
    return places


def _ranks(files: Sequence[RankFile]) -> dict[frozenset[int], int]:
    """Stages -> rank: that of the lowest stage, in a loop as in a V, so that gaps stay gaps."""
    found = sorted({file.stages for file in files}, key=min)
    lowest = [min(stages) for stages in found]
    total, v = 1 + max(map(max, found)), max(map(len, found))
    if len(set(lowest)) == len(found) and max(lowest) < total / v:
        return dict(zip(found, lowest, strict=True))
    return {stages: i for i, stages in enumerate(found)}


def _by_receives(files: Sequence[RankFile]) -> list[tuple[int, int]]:
    """First ranks begin without waiting: their number is that of the pipelines.

    The job's ranks 0, 1, ... are either the first ranks of all replicas, or one replica.
    """
    first = [i for i, file in enumerate(files) if _begins(file)] or [0]
    replicas = len(first)
    size, rest = divmod(len(files), replicas)
    if rest or replicas == 1:
        return [(0, file.rank if file.rank < 1 << 12 else i) for i, file in enumerate(files)]
    if first == [*range(replicas)]:
        return [(i % replicas, i // replicas) for i in range(len(files))]
    return [divmod(i, size) for i in range(len(files))]


def _begins(file: RankFile) -> bool:
    """Whether no forward of this rank waits for a message."""
    waited = {e.microbatch for e in file.events if e.kind is Kind.WAIT}
    first = min((e for e in file.events if e.kind in COMPUTE), key=lambda e: e.start)
    early = [e for e in file.events if e.kind is Kind.WAIT and e.end <= first.start]
    return not early and not (waited and file.events and file.events[0].kind is Kind.WAIT)


def _at(event: Event, rank: int, stage: int | None) -> Event:
    return event._replace(rank=rank, stage=event.stage if stage is None else stage)


def _with_peers(events: list[Event]) -> list[Event]:
    """Messages with the rank at their other end; those within a rank are none."""
    home = {e.stage: e.rank for e in events if e.kind in COMPUTE}
    begun: dict[tuple[int, int | None], float] = {
        (e.stage, e.microbatch): e.start for e in events if e.kind is Kind.F
    }
    found = []
    for e in events:
        toward = _TOWARD.get(e.kind)
        if e.kind is Kind.WAIT:  # before its forward it is for that one's input
            before = e.end <= begun.get((e.stage, e.microbatch), float("inf"))
            toward = -1 if before else 1
        if toward is None:
            found.append(e)
            continue
        peer = home.get(e.stage + toward)
        if peer is not None and peer != e.rank:
            found.append(e._replace(peer=peer))
    return found

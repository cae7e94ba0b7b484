"""torch.profiler's files (kineto) of torch.distributed.pipelining: one file a rank.

    schedules of its runtime   ranges "PP:2F0", "PP:2SEND_F0", "PP:(0F7;7B3)OVERLAP_F_B"
    ScheduleGPipe              ranges "Forward 0", "Backward 0"; the stage is the rank
    Schedule1F1B               no ranges: Python's calls of its forward_one_chunk and
                               backward_one_chunk, with ``with_stack=True``, numbered by order

A range on the host is not the computation: see computed.py.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipelab.action import Action, Kind
from pipelab.errors import TraceError
from pipelab.trace.event import Event
from pipelab.trace.readers.computed import Call, Device, Range, events_of
from pipelab.trace.readers.gathered import DEVICE_TIME, HOST_TIME, Gathered
from pipelab.trace.readers.placement import RankFile, placed
from pipelab.trace.readers.stream import EventFile, Json, arguments, number, whole

_RUNTIME = re.compile(r"PP:(\d{1,6})(F|I|W|B|SEND_F|RECV_F|SEND_B|RECV_B|REDUCE_GRAD)(\d{1,6})?")
_PAIR = re.compile(r"PP:\((.{3,60})\)OVERLAP_F_B")
_GPIPE = re.compile(r"(Forward|Backward) (\d{1,6})")
_STEP = re.compile(r"ProfilerStep#(\d{1,9})")
_CALL = re.compile(
    r"(?:.*/)?distributed/pipelining/(?:stage|schedules)\.py\(\d+\): "
    r"(forward_one_chunk|backward_one_chunk|backward_weight_one_chunk|_maybe_compute_loss)"
)
_RANK_IN_NAME = re.compile(r"rank[-_]?(\d{1,6})", re.IGNORECASE)
_LAUNCHES = frozenset({"cuda_runtime", "cuda_driver"})
_ON_DEVICE = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
_P2P = ("c10d::send", "c10d::recv_")


@dataclass
class _File:
    """What is kept of one file while it is read; times in microseconds of its clock."""

    ranges: list[Range] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    receives: list[Call] = field(default_factory=list)
    sends: list[Call] = field(default_factory=list)
    steps: list[tuple[float, float, int]] = field(default_factory=list)
    device: Device = field(default_factory=Device)


class Kineto:
    """Collects what the files of this form hold."""

    form = "torch.profiler"
    expected = (
        "torch.profiler's ranges of torch.distributed.pipelining (PP:0F0, Forward 0, or with "
        "with_stack=True the calls of forward_one_chunk)"
    )

    def __init__(self) -> None:
        self.files: list[RankFile] = []
        self.file = _File()
        self.found = 0
        self.notes: Counter[str] = Counter()

    def __len__(self) -> int:
        return self.found

    def take(self, name: str, event: Json) -> None:
        """One event of a file."""
        category = event.get("cat")
        if category == "cpu_op":
            if name == _P2P[0]:
                self.file.sends.append(_call(name, event))
        elif category == "python_function":
            if match := _CALL.fullmatch(name):
                self.found += match[1] != "_maybe_compute_loss"
                self.file.calls.append(_call(match[1], event))
        elif category == "user_annotation":
            self._take_range(name, event)
        elif isinstance(category, str) and (category in _LAUNCHES or category in _ON_DEVICE):
            self._take_device(name, event, category in _ON_DEVICE)

    def _take_range(self, name: str, event: Json) -> None:
        if name.startswith("PP:") or _GPIPE.fullmatch(name):
            if actions := actions_of(name):
                self.found += 1
                start, end = _times(event)
                self.file.ranges.append(Range(start, end, actions, name.startswith("PP:")))
        elif name.endswith(":recv"):
            self.file.receives.append(_call(name, event))
        elif match := _STEP.fullmatch(name):
            self.file.steps.append((*_times(event), int(match[1])))

    def _take_device(self, name: str, event: Json, runs: bool) -> None:
        correlation = whole(arguments(event).get("correlation"))
        if correlation < 0:
            return
        if runs:
            self.file.device.ran(correlation, *_times(event), "nccl" in name.lower())
        else:
            self.file.device.launched(correlation, _times(event)[0])

    def end_file(self, file: EventFile) -> None:
        """Turn what was kept of this file into events, and forget it."""
        kept, self.file = self.file, _File()
        if not (kept.ranges or kept.calls):
            if kept.receives or kept.sends or kept.steps or kept.device:
                raise TraceError(_nothing(file.path))
            return
        base = file.value("baseTimeNanoseconds")
        about = file.value("distributedInfo")
        about = about if isinstance(about, dict) else {}
        host = file.value("host_name")
        events, notes = events_of(kept.ranges, kept.calls, kept.receives, kept.sends, kept.device)
        self.notes.update(notes)
        self.files.append(
            RankFile(
                file.path,
                _rank_of(about, file.path, len(self.files)),
                _pipelines(about),
                host if isinstance(host, str) else "",
                events,
                sorted(kept.steps),
                base if isinstance(base, int) else 0,
                on_device=bool(kept.device),
                names_stages=any(r.names_stage for r in kept.ranges),
                is_numbered=bool(kept.ranges),
                world_size=whole(about.get("world_size"), 0),
            )
        )

    def gathered(self) -> Gathered:
        """All steps of all replicas."""
        first = min(file.base for file in self.files)
        for file in self.files:  # only then to seconds: nanoseconds since 1970 fill a float
            file.zero = (file.base - first) / 1e9
        lengths = [_balance(file) for file in self.files if not file.is_numbered]
        m = max(lengths, default=1)
        steps, hosts, notes, replicas = placed(self.files, [_in_steps(f, m) for f in self.files])
        on_device = {file.on_device for file in self.files}
        if len(on_device) > 1:
            notes.append("some files hold kernels, others do not: device time and host time differ")
        notes += [text for text, _ in sorted(self.notes.items())]
        notes.append("the files hold no memory")
        clock = DEVICE_TIME if on_device == {True} else HOST_TIME
        return Gathered(self.form, clock, steps, notes, hosts, replicas)


def actions_of(name: str) -> tuple[Action, ...]:
    """What a range computes or sends; () for what is no action of ours. GPipe's stage is 0.

    >>> [a.token for a in actions_of("PP:(0F7;7B3)OVERLAP_F_B")]
    ['0F7', '7B3']
    """
    if pair := _PAIR.fullmatch(name):
        return tuple(a for part in re.split(r"[;,]\s*", pair[1]) for a in actions_of(f"PP:{part}"))
    if match := _RUNTIME.fullmatch(name):
        microbatch = None if match[3] is None else int(match[3])
        kind = Kind(match[2])
        if (microbatch is None) != (kind is Kind.REDUCE_GRAD):
            return ()
        return (Action(int(match[1]), kind, microbatch),)
    if match := _GPIPE.fullmatch(name):
        return (Action(0, Kind.F if match[1] == "Forward" else Kind.B, int(match[2])),)
    return ()


def _times(event: Json) -> tuple[float, float]:
    start = number(event, "ts")
    return start, start + number(event, "dur", 0.0)


def _call(name: str, event: Json) -> Call:
    return Call(*_times(event), name)


def _nothing(path: Path) -> str:
    return (
        f"{path}: torch.profiler's, but without a range of a schedule: Schedule1F1B leaves none, "
        f"so profile with with_stack=True; and call schedule.step within the profiled steps"
    )


def _rank_of(about: Json, path: Path, number_of_file: int) -> int:
    rank = whole(about.get("rank"))
    if rank < 0 and (match := _RANK_IN_NAME.search(path.name)):
        rank = int(match[1])
    return number_of_file if rank < 0 else rank


def _pipelines(about: Json) -> tuple[int, ...]:
    """The ranks of this one's pipeline, where the job named its process group so."""
    groups = about.get("pg_config")
    for group in groups if isinstance(groups, list) else []:
        if isinstance(group, dict) and re.search(r"(^|_)pp$", str(group.get("pg_desc"))):
            ranks = group.get("ranks")
            if isinstance(ranks, list) and all(whole(rank) >= 0 for rank in ranks):
                return tuple(ranks)
    return ()


def _in_steps(file: RankFile, num_microbatches: int) -> dict[int, list[Event]]:
    """Step -> events in seconds: an action that comes again begins the next step.

    A ProfilerStep begins one too; it may hold several, and may be missing. A wait belongs to the
    step of what comes after it.
    """
    steps: list[tuple[int, list[Event]]] = []
    seen: set[tuple[Kind, int, int | None]] = set()
    waits: list[Event] = []
    for window, event in _windowed(file):
        if event.microbatch is not None and not file.is_numbered:
            event = event._replace(microbatch=event.microbatch % num_microbatches)
        start, end = event.start / 1e6 + file.zero, event.end / 1e6 + file.zero
        event = event._replace(start=start, end=end)
        if event.kind is Kind.WAIT:
            waits.append(event)
            continue
        action = event.kind, event.stage, event.microbatch
        if not steps or window != steps[-1][0] or action in seen:
            steps.append((window, []))
            seen = set()
        seen.add(action)
        steps[-1][1].extend([*waits, event])
        waits = []
    numbers = [window for window, _ in steps]
    if len(set(numbers)) != len(numbers) or -1 in numbers:
        numbers = [*range(len(steps))]
    return dict(zip(numbers, (events for _, events in steps), strict=True))


def _windowed(file: RankFile) -> Iterator[tuple[int, Event]]:
    """Each event and the number of the ProfilerStep that it began in; -1 outside of all."""
    at = 0
    windows = file.windows
    for event in sorted(file.events, key=lambda e: e.start):
        while at < len(windows) and windows[at][1] < event.start:
            at += 1
        inside = at < len(windows) and windows[at][0] <= event.start
        yield windows[at][2] if inside else -1, event


def _balance(file: RankFile) -> int:
    """After how many forwards as many backwards have run for the first time.

    On all ranks but the last that is the number of microbatches: only there each forward is
    followed by its backward.
    """
    forward = backward = 0
    for event in sorted(file.events, key=lambda e: e.start):
        forward += event.kind is Kind.F
        backward += event.kind is Kind.B
        if forward and forward == backward:
            return forward
    return forward

"""What every reader gives: things done by ranks, in steps and replicas; and what is missing.

Counted once for all forms: ranks, microbatches and messages that a step lacks or has twice.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pipelab.action import COMPUTE, Kind
from pipelab.errors import TraceError
from pipelab.trace.event import Event
from pipelab.words import number

_ROLES = {Kind.F: "F", Kind.B: "the backward", Kind.W: "the backward"}
HOST_TIME, DEVICE_TIME = "host time", "device time"
_BACKWARDS = frozenset({Kind.B, Kind.I, Kind.W})
_SHOWN = 6  # examples that a note names
_SAME = 0.01  # of what an action takes: two files' rounding of the same one


class StepKey(NamedTuple):
    """Which step of which copy of the pipeline."""

    step: int
    replica: int


@dataclass
class Gathered:
    """All that was read, before the clocks are aligned.

    Attributes:
        form: of the files, such as ``"ndtimeline"``.
        clock: ``HOST_TIME`` or ``DEVICE_TIME``.
        steps: for each step and replica its events, in seconds.
        notes: what the files do not hold, or hold twice, in sentences.
        hosts: for each replica and rank, the machine whose clock it has; empty if not known.
        replicas: how many the job has.
    """

    form: str
    clock: str
    steps: dict[StepKey, list[Event]]
    notes: list[str] = field(default_factory=list)
    hosts: dict[tuple[int, int], str] = field(default_factory=dict)
    replicas: int = 1

    @property
    def num_ranks(self) -> int:
        """Of one replica."""
        return 1 + max((e.rank for row in self.steps.values() for e in row), default=-1)


def check_one_run(gathered: Gathered, files: Sequence[Path]) -> None:
    """Raise TraceError if several files hold the same action of a step with other times."""
    for key, events in gathered.steps.items():
        seen: dict[object, Event] = {}
        for e in events:
            if e.kind not in COMPUTE or len(files) < 2:
                continue
            first = seen.setdefault((e.rank, e.kind, e.stage, e.microbatch), e)
            if abs((first.end - first.start) - (e.end - e.start)) > _SAME * (e.end - e.start):
                raise TraceError(
                    f"{files[0]} and the others hold step {key.step} of replica {key.replica} "
                    f"twice, with other times: they are of several runs; open those of one run"
                )


def counted(gathered: Gathered) -> Gathered:
    """Each action once; steps that lack ranks or actions which others have, said with counts.

    A step of which a part was recorded, as at either end of a profile, is left out where whole
    ones are there.
    """
    steps = {}
    doubles = 0
    for key, events in gathered.steps.items():
        steps[key] = _once(events)
        doubles += len(events) - len(steps[key])
    notes = [*gathered.notes]
    if doubles:
        notes.append(f"{number(doubles, 'event')} there twice: the first of each is read")
    whole, partial = _whole(steps)
    if whole and partial:
        notes.append(_partial_note(steps, whole, partial))
    gathered.steps = {key: steps[key] for key in sorted(whole or partial)}
    gathered.notes = notes + _lacking(gathered)
    return gathered


def _once(events: Iterable[Event]) -> list[Event]:
    seen: dict[object, Event] = {}
    for event in sorted(events, key=lambda e: e.start):
        # a microbatch may be waited for twice: before its forward and before its backward
        when = event.start if event.kind is Kind.WAIT else None
        seen.setdefault((event.rank, event.kind, event.stage, event.microbatch, when), event)
    return [*seen.values()]


def _whole(steps: dict[StepKey, list[Event]]) -> tuple[list[StepKey], list[StepKey]]:
    """The steps in which every stage of the job has as many backwards as forwards; the others.

    Steps of forwards alone are whole if all are, as in an evaluation.
    """
    stages = {e.stage for row in steps.values() for e in row if e.kind in COMPUTE}
    trains = any(e.kind in _BACKWARDS for row in steps.values() for e in row)
    whole = [key for key, events in steps.items() if _is_whole(events, stages, trains)]
    return whole, [key for key in steps if key not in set(whole)]


def _is_whole(events: Iterable[Event], stages: Collection[int], trains: bool) -> bool:
    count = Counter((e.stage, e.kind) for e in events)
    forward = {count[stage, Kind.F] for stage in stages}
    backward = {count[stage, Kind.B] + count[stage, Kind.W] for stage in stages}
    inputs = {count[stage, Kind.B] + count[stage, Kind.I] for stage in stages}
    if not trains:
        return len(forward) == 1
    return len(forward) == 1 and forward == backward == inputs


def _partial_note(
    steps: dict[StepKey, list[Event]], whole: Sequence[StepKey], partial: Sequence[StepKey]
) -> str:
    done = {key: sum(e.kind in COMPUTE for e in events) for key, events in steps.items()}
    full = max(done[key] for key in whole)
    texts = [
        f"step {key.step} of replica {key.replica} has {done[key]} of {full} computations"
        for key in partial[:_SHOWN]
    ]
    more = f" and {len(partial) - _SHOWN} more" if len(partial) > _SHOWN else ""
    return f"left out, since only a part was recorded: {'; '.join(texts)}{more}"


def _lacking(gathered: Gathered) -> list[str]:
    """Ranks and microbatches that all steps lack."""
    ranks: dict[int, set[int]] = defaultdict(set)
    actions: dict[tuple[int, str], set[int]] = defaultdict(set)
    microbatches: set[int] = set()
    for key, events in gathered.steps.items():
        for e in events:
            if e.kind in COMPUTE and e.microbatch is not None:
                ranks[key.replica].add(e.rank)
                if e.kind is not Kind.I:  # half of a backward, which its W completes
                    actions[e.stage, _ROLES[e.kind]].add(e.microbatch)
                microbatches.add(e.microbatch)
    found = []
    everyone = set(range(gathered.num_ranks))
    for replica, there in sorted(ranks.items()):
        if lost := sorted(everyone - there):
            found.append(
                f"replica {replica} has {len(there)} of {len(everyone)} ranks: "
                f"{_names('rank', lost)} not recorded"
            )
    for (stage, role), there in sorted(actions.items()):
        if lost := sorted(microbatches - there):
            found.append(
                f"stage {stage} has {role} of {len(there)} of {len(microbatches)} microbatches: "
                f"{_names('microbatch', lost)} not recorded"
            )
    unseen = sorted(set(range(max(microbatches, default=-1) + 1)) - microbatches)
    if unseen:
        found.append(f"{_names('microbatch', unseen)} not recorded on any rank")
    return found


def _names(noun: str, numbers: Sequence[int]) -> str:
    plural = noun + ("es" if noun.endswith("ch") else "s")
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"{noun if len(numbers) == 1 else plural} {', '.join(map(str, numbers[:_SHOWN]))}{more}"

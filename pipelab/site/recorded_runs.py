"""The playground's recordings: which there are, the line that makes each, and what is shown of it.

``python -m tests.site.record`` makes them; they are in notebooks/site/recordings/runs, packed. A
recording is shown beside a prediction of the same schedule, sizes and costs: on the same axis, with
where the two differ.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipelab.action import COMPUTE
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace, compare
from pipelab.trace.differences import Comparison
from pipelab.widgets.data import timeline_state
from pipelab.widgets.page import portable
from pipelab.words import REASONS, change, number, percent, time_text

FOLDER = "runs"  # below the gallery's recordings
_SIZES = ((2, 4), (4, 8), (4, 16))
_LONG = (4, 32)  # in which a stranger sees the bubble shrink
_LONG_ONES = ("gpipe", "1f1b")
_UNPACED = ((2, 4), (4, 8))
_NAMED = 4  # differences at most
_TINY = 0.002  # of all rank-time: less of a difference is not named
_HOW = {
    True: "Real processes, tensors and messages; each action paced to the time set above.",
    False: "A tiny GPT, as fast as the machine went; predicted from what its actions took there, "
    "with a device for each rank.",
}
_UNIT = 0.010  # seconds of F, I and W of a rank's slice: the page's own at first


class Run(NamedTuple):
    """A recording that is shipped."""

    schedule: str
    p: int
    m: int
    paced: bool = True

    @property
    def name(self) -> str:
        """Of its file, less the ending; the page asks for it by this name."""
        return f"{self.schedule}-{self.p}-{self.m}" + ("" if self.paced else "-unpaced")

    @property
    def line(self) -> str:
        """The command that records it on any machine."""
        sizes = f"pipelab run --schedule {self.schedule} -p {self.p} -m {self.m}"
        return sizes if self.paced else f"{sizes} --unpaced"

    def predicted(self, trace: Trace) -> Trace:
        """What is predicted for it: at the set pace, or at what its own actions took."""
        schedule = build(self.schedule, self.p, self.m)
        share = _UNIT * self.p / schedule.num_stages
        return simulate(
            schedule, Cost(share, share, share) if self.paced else Cost.from_trace(trace)
        )


def runs() -> Iterator[Run]:
    """All of them: the catalogue in a few sizes."""
    for name in BUILDERS:
        sizes = (*_SIZES, *[_LONG] * (name in _LONG_ONES))
        yield from (Run(name, p, m) for p, m in sizes)
        yield from (Run(name, p, m, paced=False) for p, m in _UNPACED)


def file_of(run: Run, recordings: Path) -> Path:
    """Where its trace is."""
    return recordings / FOLDER / f"{run.name}.json.gz"


def load(run: Run, recordings: Path) -> Trace:
    """Its trace. Raises TraceError for a file that is damaged."""
    return Trace.load(file_of(run, recordings))


def write_runs(recordings: Path, folder: Path) -> list[str]:
    """Write each recording as the page plays it; returns their names."""
    found = [run for run in runs() if file_of(run, recordings).is_file()]
    folder.mkdir(exist_ok=True)
    for run in found:
        folder.joinpath(f"{run.name}.json").write_text(shown(run, recordings), "utf-8")
    return [run.name for run in found]


def shown(run: Run, recordings: Path) -> str:
    """The values of a timeline in JSON: the recording, its prediction behind it, differences."""
    trace = load(run, recordings)
    predicted = run.predicted(trace)
    state = timeline_state(trace, predicted)
    return portable({**state, "words": words(predicted, trace)})


def words(predicted: Trace, trace: Trace) -> str:
    """How the two differ, and what the difference comes from."""
    found = compare(predicted, trace)
    ranks, cpus = trace.num_ranks, trace.setting.cpus
    lines = [_HOW[bool(trace.setting.paced)]]
    if not trace.setting.paced and cpus and cpus < ranks:
        lines.append(f"{ranks} ranks shared {number(cpus, 'core')}, so they waited for those, too.")
    took, bubble = found.duration, found.bubble_fraction
    lines.append(
        f"The step took {time_text(took.b)}, predicted {time_text(took.a)} "
        f"({change(took.b / took.a)}); its bubble is {percent(bubble.b, 1)}, predicted "
        f"{percent(bubble.a, 1)}."
    )
    return " ".join([*lines, *_causes(found)])


def _causes(found: Comparison) -> Iterator[str]:
    """On what ranks together spent more time, or less: the most first, without what is tiny."""
    total: dict[str, float] = defaultdict(float)
    for row in found.rows:
        if row.kind in COMPUTE:
            total[row.kind] += row.total.difference
    for reason, pair in found.idle.items():
        total[REASONS[reason].name] += pair.difference
    least = _TINY * found.duration.a * found.ranks.a
    parts = [
        f"{name} {'+' if seconds > 0 else '−'}{time_text(abs(seconds))}"
        for name, seconds in sorted(total.items(), key=lambda item: -abs(item[1]))[:_NAMED]
        if abs(seconds) > least
    ]
    if parts:
        yield f"Summed over the ranks: {', '.join(parts)}."

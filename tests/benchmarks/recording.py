"""Recording: steps of a script's own schedule under torchrun, recorded and plain, in turns.

Four ranks of torchrun's train a model cut in four with torch.distributed.pipelining. In the same
processes blocks of steps run with ``recording(schedule)`` around them, without, and without again,
in changing order, so that all have the same machine. The figures, the most robust last:

    wall    seconds of a block on the clock, recorded over plain: pair by pair, with quartiles
    cpu     the processor's seconds of all ranks, likewise: depends less on what else runs
    chance  cpu of plain over plain again: so far from 1 is what chance alone makes
    alone   microseconds that the recorder takes for one event around functions that do nothing,
            and what that makes of a plain step's processor's seconds

``end``: the exchange of what was recorded, once when the block ``with`` ends, in no step.
"""

import json
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

from pipelab.bench.ratio import Ratio
from pipelab.engine.torchrun.private_run import run_privately
from pipelab.schedules.catalogue import BUILDERS
from pipelab.words import table_text

_SCRIPT = Path(__file__).with_name("recording_rank.py")
_DEADLINE = 900.0  # seconds of one case


class RecordingResult(NamedTuple):
    """One case; seconds of a step, one entry per block. ``events``: of one step, all ranks."""

    workload: str
    schedule: str
    num_ranks: int
    steps: int
    events: int
    wall: dict[str, list[float]]
    cpu: dict[str, list[float]]
    alone: float
    end: float

    @property
    def wall_ratio(self) -> Ratio:
        """Recorded over plain."""
        return Ratio.of(self.wall["recorded"], self.wall["plain"])

    @property
    def cpu_ratio(self) -> Ratio:
        """The processor's seconds, recorded over plain."""
        return Ratio.of(self.cpu["recorded"], self.cpu["plain"])

    @property
    def chance(self) -> Ratio:
        """The processor's seconds, plain over plain again."""
        return Ratio.of(self.cpu["plain"], self.cpu["again"])

    @property
    def an_event(self) -> float:
        """Processor's seconds that an event costs within a step."""
        pairs = zip(self.cpu["recorded"], self.cpu["plain"], strict=True)
        return median(a - b for a, b in pairs) / self.events

    @property
    def share(self) -> float:
        """What the recorder takes by itself, of a plain step's processor's seconds."""
        return self.alone * self.events / median(self.cpu["plain"])

    def to_json(self) -> dict[str, object]:
        """Plain data, seconds."""
        ratios = {"wall": self.wall_ratio._asdict(), "cpu": self.cpu_ratio._asdict(),
                  "chance": self.chance._asdict()}  # fmt: skip
        return {**self._asdict(), "recorded_over_plain": ratios, "an_event": self.an_event,
                "share": self.share}  # fmt: skip


def bench_recording(
    model: str, schedule: str, num_ranks: int, microbatches: int, blocks: int, seconds: float
) -> RecordingResult:
    """One case, in new processes."""
    kind = BUILDERS[schedule].torch or ""
    with tempfile.TemporaryDirectory(prefix="pipelab-bench-") as name:
        folder = Path(name)
        sizes = [str(microbatches), str(blocks), str(seconds)]
        run_privately(_SCRIPT, num_ranks, folder, [model, kind, *sizes], _DEADLINE)
        found = json.loads((folder / "result.json").read_text("utf-8"))
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    steps = found["steps"]
    for side in found["ranks"][0]:
        blocks_of_all = [*zip(*(rank[side] for rank in found["ranks"]), strict=True)]
        wall[side] = [(max(b[1] for b in row) - min(b[0] for b in row)) / steps
                      for row in blocks_of_all]  # fmt: skip
        cpu[side] = [sum(b[2] for b in row) / steps for row in blocks_of_all]
    end = median(block[3] for block in found["ranks"][0]["recorded"])
    return RecordingResult(
        model, schedule, num_ranks, steps, found["events"], wall, cpu, found["alone"], end
    )


def recording_table(results: list[RecordingResult]) -> str:
    """One line per case."""
    head = [
        *("step", "schedule", "plain, ms", "cpu, ms", "wall, recorded over plain", "cpu"),
        *("chance", "events", "us an event", "alone", "of a step", "end, ms"),
    ]
    rows: list[list[object]] = [[*head]]
    for r in results:
        plain = [f"{1e3 * median(side['plain']):.2f}" for side in (r.wall, r.cpu)]
        micro = [f"{1e6 * r.an_event:.1f}", f"{1e6 * r.alone:.2f}", f"{100 * r.share:.2f} %"]
        ratios = [_exact(ratio) for ratio in (r.wall_ratio, r.cpu_ratio, r.chance)]
        rows.append([r.workload, r.schedule, *plain, *ratios, r.events, *micro,
                     f"{1e3 * r.end:.1f}"])  # fmt: skip
    return table_text(rows)


def _exact(ratio: Ratio) -> str:
    """A percent matters here."""
    return f"{ratio.median:.4f} ({ratio.low:.3f} to {ratio.high:.3f})"

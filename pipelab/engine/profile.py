"""One step under PyTorch's profiler: the trace's events and its operators in one file."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelab.engine.driver.result import StepResult
from pipelab.engine.pipeline import Pipeline
from pipelab.engine.protocol.commands import GetProfiler
from pipelab.files import replace_text
from pipelab.trace.chrome import chrome_json
from pipelab.trace.event import Operator


@dataclass(frozen=True)
class Profile:
    """A step, and the operators that each rank's profiler recorded in it.

    Attributes:
        result: the step's result, with its trace.
    """

    result: StepResult

    @cached_property
    def operators(self) -> tuple[Operator, ...]:
        """All operators of all ranks, seconds on the clock of ``result.trace``'s events."""
        answers = self.result._answers
        starts = (start for answer in answers for _, start, *_ in answer.events)
        zero = min(starts, default=0.0)
        return tuple(
            Operator(rank, name, device, thread, start - zero, end - zero)
            for rank, answer in enumerate(answers)
            for name, device, thread, start, end in answer.seen
        )

    @property
    def clock_error(self) -> float:
        """Seconds by which an operator may be early or late against the events of its rank."""
        return max(answer.clock_error for answer in self.result._answers)

    def to_chrome(self, path: str | os.PathLike[str]) -> Path:
        """Write one file for Perfetto: below each rank's events, the operators of these."""
        return replace_text(Path(path), self._json())

    def _json(self) -> str:
        # operators may have run before the first event, while the batch was cut: times in the file
        # must not be negative
        trace = self.result.trace
        later = max(0.0, -min((operator.start for operator in self.operators), default=0.0))
        events = [e._replace(start=e.start + later, end=e.end + later) for e in trace.events]
        operators = [o._replace(start=o.start + later, end=o.end + later) for o in self.operators]
        data = json.loads(chrome_json(events, trace.setting, trace.source_line, operators))
        data["otherData"]["profiled"] = (
            f"a step under PyTorch's profiler is slower than a bare one; operators are placed "
            f"within {self.clock_error * 1e6:.0f} µs"
        )
        return json.dumps(data, ensure_ascii=False)


def profile_step(
    pipeline: Pipeline, inputs: Any, targets: Any, folder: str | os.PathLike[str] | None = None
) -> Profile:
    """Train on one batch, as ``pipeline.step`` does, with PyTorch's profiler on every rank.

    Args:
        pipeline: open, of either worker, with ``record=True``.
        inputs: as in ``step``.
        targets: as in ``step``.
        folder: where each rank leaves the profiler's own file, ``rank0_trace.json.gz`` and so on,
            as a script of torch's would: ``pipelab open`` reads them where torch is the worker.

    Raises:
        BatchError, RankError: as ``step`` does.
    """
    # the profiler's first start takes a second, which would be part of the step
    pipeline._ask_all(GetProfiler())
    files = ""
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        files = str(Path(folder).absolute())  # the ranks may have another working directory
    return Profile(pipeline._step(inputs, targets, update=True, profiled=True, folder=files))

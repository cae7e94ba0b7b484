"""Step: one training step of pipelab and of torch.distributed.pipelining, in turns.

    ours              torch's own schedule, public by name
    gpipe             ScheduleGPipe
    1f1b              Schedule1F1B
    interleaved       ScheduleInterleaved1F1B, two stages a rank
    zero_bubble_h1    ScheduleInterleavedZeroBubble with one stage a rank, which is ZB-H1
    zero_bubble_v     ScheduleZBVZeroBubble
    dual_pipe_v       ScheduleDualPipeV

Same stages and starting weights, same batch, same SGD (lr 0.01, no momentum), same threads per
rank, gloo over loopback, processes from one fork server. Before any time is taken, one step of
both must give the same loss and the same gradients.

What is in a step, and why it is fair, in doubt in favour of torch:

    ours     seconds in the parent from the call of pipeline.step() to its return: the batch is
             pickled and sent, the step runs and is recorded, the loss and all events come home
    torch    seconds on the ranks, after a barrier, from the first one's start to the last one's
             end, over the steps of a block: no parent, no pipe, its batch is already there, and
             a rank may begin its next step while another still ends the last

Both zero the gradients, step the optimizer and turn the loss into a number. torch scales the
gradients by 1/m after the last backward (its default, right for these equal microbatches), we
scale the loss. Blocks alternate, A B A B; a ratio compares two blocks that are neighbours.

With ``--limit`` the same processes also compute alone (see limit.py), in turns with both sides.

On a busy machine seconds are half chance: the table says what share other processes had, and
compares the processor's seconds too, our parent's included.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from statistics import geometric_mean, median
from typing import NamedTuple

from torch import Tensor

from pipelab.bench.limit import computations
from pipelab.bench.meter import Meter
from pipelab.bench.ratio import Ratio
from pipelab.bench.torch_driver import TorchRanks
from pipelab.bench.torch_rank import Job
from pipelab.bench.workloads import OPTIMIZER, Workload, workload
from pipelab.engine import Pipeline
from pipelab.engine.launch.processes import threads_per_rank
from pipelab.errors import PipelabError
from pipelab.partition import split
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.words import percent, table_text

SCHEDULES = tuple(name for name, builder in BUILDERS.items() if builder.torch)
STAGES_PER_RANK = 2  # of the interleaved one
_TOLERANCE = 1e-5  # of a loss or a gradient, relative to its largest entry
_WARMUP = 2  # steps of each side that do not count
_HEAD = ["step", "p", "m", "schedule", "ours, ms", "torch, ms", "ours / torch (quartiles)",
         "cpu", "others"]  # fmt: skip
_LIMIT = ["limit, ms", "ours / limit (quartiles)"]


class Case(NamedTuple):
    """One line of the table: what runs on how many ranks, and in how long blocks."""

    workload: str
    schedule: str
    num_ranks: int
    num_microbatches: int = 8
    num_blocks: int = 15
    block_seconds: float = 0.3
    torch_affinity: bool = False
    limit: bool = False

    @property
    def actions(self) -> Schedule:
        """Who runs what, in which order."""
        return build(self.schedule, self.num_ranks, self.num_microbatches, STAGES_PER_RANK)

    @property
    def work(self) -> Workload:
        """A model with layers enough, and its batch."""
        return workload(self.workload, self.actions.num_stages)


class StepResult(NamedTuple):
    """What a case measured: seconds per step, one entry per block; torch's may be none.

    ``refusal``: why torch does not run this case, in its words. ``others``: the share of the
    machine that other processes had. ``cpu``: the processor's seconds of a step, ours and torch's.
    """

    case: Case
    num_parameters: int
    steps_per_block: int
    others: float
    cpu: tuple[float, float]
    ours: list[float]
    torch: list[float]
    limit: list[float]
    loss: tuple[float, float] | None = None
    gradient_difference: float = 0.0
    refusal: str = ""

    @property
    def ratio(self) -> Ratio | None:
        """Our time over torch's."""
        return Ratio.of(self.ours, self.torch) if self.torch else None

    @property
    def limit_ratio(self) -> Ratio | None:
        """Our time over that of the computation alone; None where it was not asked for."""
        return Ratio.of(self.ours, self.limit) if self.limit else None

    @property
    def cpu_ratio(self) -> float | None:
        """The same of the processor's time; None where torch has none."""
        return self.cpu[0] / self.cpu[1] if self.cpu[1] else None

    def to_json(self) -> dict[str, object]:
        """Plain data, seconds."""
        case, ratio, limit = self.case, self.ratio, self.limit_ratio
        return {
            "model": case.workload,
            "parameters": self.num_parameters,
            "schedule": case.schedule,
            "ranks": case.num_ranks,
            "microbatches": case.num_microbatches,
            "threads_per_rank": threads_per_rank(case.num_ranks),
            "steps_per_block": self.steps_per_block,
            "share_of_other_processes": self.others,
            "loss": self.loss and {"ours": self.loss[0], "torch": self.loss[1]},
            "gradient_difference": self.gradient_difference,
            "seconds_per_step": {"ours": self.ours, "torch": self.torch, "limit": self.limit},
            "ours_over_torch": ratio and ratio._asdict(),
            "ours_over_limit": limit and limit._asdict(),
            "cpu_seconds_per_step": {"ours": self.cpu[0], "torch": self.cpu[1]},
            "torch_refuses": self.refusal,
        }


def bench_cases(cases: Iterable[Case]) -> Iterator[StepResult]:
    """All cases in turn; torch's ranks stay up as long as their number does."""
    for num_ranks, group in groupby(cases, key=lambda case: case.num_ranks):
        with TorchRanks(num_ranks) as others:
            yield from (bench_case(case, others) for case in group)


def bench_case(case: Case, others: TorchRanks) -> StepResult:
    """Let both sides agree, then time them in turns; where torch refuses, time ours alone."""
    work = case.work
    refusal = others.take(jobs(work, case))
    with Pipeline(
        work.model, case.actions, loss=work.loss, optimizer=OPTIMIZER, timeout=60.0
    ) as pipeline:
        once = partial(pipeline.step, work.inputs, work.targets)
        loss, difference = (None, 0.0) if refusal else _agree(pipeline, others, work)
        steps = max(1, round(case.block_seconds / min(_seconds(once, 1) for _ in range(_WARMUP))))
        found: tuple[list[float], list[float], list[float]] = [], [], []
        meters = Meter([*pipeline.pids, os.getpid()]), Meter(others.pids)
        if not refusal:
            others.run(_WARMUP)
        if case.limit:
            others.compute_alone(computations(work, case.actions))
            others.run_alone(_WARMUP)
        for _ in range(case.num_blocks):
            with meters[0]:
                found[0].append(_seconds(once, steps) / steps)
            if not refusal:
                with meters[1]:
                    found[1].append(others.run(steps)[0] / steps)
            if case.limit:
                found[2].append(others.run_alone(steps) / steps)
    per_step = 1 / (steps * case.num_blocks)
    cpu = meters[0].own * per_step, meters[1].own * per_step
    share = max(meter.others for meter in meters)
    size = work.num_parameters
    return StepResult(case, size, steps, share, cpu, *found, loss, difference, refusal)


def jobs(work: Workload, case: Case) -> list[Job]:
    """What each of torch's ranks is to do."""
    schedule = case.actions
    stages = split(work.model, schedule.num_stages)
    first, last = (schedule.rank_of_stage[stage] for stage in (0, schedule.num_stages - 1))
    return [
        Job(
            {number: stages[number] for number in schedule.stages_of(rank)},
            schedule.num_stages,
            work.loss,
            OPTIMIZER,
            case.schedule,
            case.num_microbatches,
            work.inputs if rank == first else None,
            work.targets if rank == last else None,
            case.torch_affinity,
        )
        for rank in range(case.num_ranks)
    ]


def _agree(
    pipeline: Pipeline, others: TorchRanks, work: Workload
) -> tuple[tuple[float, float], float]:
    """The losses of one step on both sides, and how far the gradients lie apart at most.

    Raises:
        PipelabError: they differ, so that there is nothing to compare.
    """
    loss = pipeline.step(work.inputs, work.targets).loss, others.run(1)[1]
    ours, theirs = pipeline.gradients(), others.gradients()
    if ours.keys() != theirs.keys():
        raise PipelabError(f"gradients on one side only: {sorted(ours.keys() ^ theirs.keys())}")
    difference = max(_difference(ours[name], theirs[name]) for name in ours)
    if abs(loss[0] - loss[1]) > _TOLERANCE * abs(loss[1]) or difference > _TOLERANCE:
        raise PipelabError(
            f"the two sides do not compute the same: losses {loss[0]} and {loss[1]}, gradients "
            f"apart by {difference:.1e} of their largest entry, at most {_TOLERANCE:.0e} is right"
        )
    return loss, difference


def _difference(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max().clamp(min=1e-12)).item()


def _seconds(step: Callable[[], object], times: int) -> float:
    start = time.monotonic()
    for _ in range(times):
        step()
    return time.monotonic() - start


def step_table(results: Sequence[StepResult]) -> str:
    """A line for each case, and for each model what its cases come to."""
    order = [*dict.fromkeys(result.case.workload for result in results)]
    rows = sorted(results, key=lambda result: order.index(result.case.workload))
    refusals = dict.fromkeys(f"torch refuses: {r.refusal}" for r in rows if r.refusal)
    head = _HEAD + (_LIMIT if any(result.limit for result in rows) else [])
    table = table_text([head, *map(_row, rows)])
    return "\n".join([table, "", *_means(results), *refusals])


def _row(result: StepResult) -> list[object]:
    case = result.case
    times = [f"{1000 * median(t):.1f}" if t else "" for t in (result.ours, result.torch)]
    what = result.ratio or "torch refuses"
    cpu = f"{result.cpu_ratio:.2f}" if result.cpu_ratio else ""
    limit = [f"{1000 * median(result.limit):.1f}", result.limit_ratio] if result.limit else []
    return [case.workload, case.num_ranks, case.num_microbatches, case.schedule, *times, what,
            cpu, percent(result.others), *limit]  # fmt: skip


def mean_of(results: Sequence[StepResult]) -> float | None:
    """The geometric mean of our times over torch's, over all points that torch runs."""
    ratios = [result.ratio.median for result in results if result.ratio]
    return geometric_mean(ratios) if ratios else None


def _means(results: Sequence[StepResult]) -> list[str]:
    lines = []
    for model in dict.fromkeys(result.case.workload for result in results):
        own = [result for result in results if result.case.workload == model]
        ratios = [result.ratio.median for result in own if result.ratio]
        cpu = [result.cpu_ratio for result in own if result.cpu_ratio]
        if ratios:
            lines.append(
                f"{model}: geometric mean {geometric_mean(ratios):.2f} over {len(ratios)} points, "
                f"from {min(ratios):.2f} to {max(ratios):.2f}; "
                f"ahead at {sum(ratio < 1 for ratio in ratios)}"
                + (f"; of the processor's time {geometric_mean(cpu):.2f}" if cpu else "")
            )
        limits = [result.limit_ratio.median for result in own if result.limit_ratio]
        if limits:
            lines.append(
                f"{model}: {geometric_mean(limits):.2f} of the limit, the computation alone, from "
                f"{min(limits):.2f} to {max(limits):.2f}"
            )
    return lines

"""The table of the step bench, and what all its cases come to together."""

from collections.abc import Sequence
from statistics import geometric_mean, median

from pipelab.bench.ratio import table
from pipelab.bench.step import StepResult

_HEAD = ["step", "p", "m", "schedule", "ours, ms", "torch, ms", "ours / torch (quartiles)",
         "cpu", "others"]  # fmt: skip


def step_table(results: Sequence[StepResult]) -> str:
    """A line for each case, and for each model what its cases come to."""
    order = [*dict.fromkeys(result.case.workload for result in results)]
    rows = sorted(results, key=lambda result: order.index(result.case.workload))
    refusals = dict.fromkeys(f"torch refuses: {r.refusal}" for r in rows if r.refusal)
    return "\n".join([table(_HEAD, [_row(r) for r in rows]), "", *_means(results), *refusals])


def _row(result: StepResult) -> list[object]:
    case = result.case
    times = [f"{1000 * median(t):.1f}" if t else "" for t in (result.ours, result.torch)]
    what = result.ratio or "torch refuses"
    cpu = f"{result.cpu_ratio:.2f}" if result.cpu_ratio else ""
    return [case.workload, case.num_ranks, case.num_microbatches, case.schedule, *times, what,
            cpu, f"{result.others:.0%}"]  # fmt: skip


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
    return lines

"""The only list of all schedules.

To add a schedule: one builder, and one entry here. Commands, the lab, charts and the comparison
with PyTorch take names, titles, marks and formulas from it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pipelab.errors import ScheduleError
from pipelab.schedules import formulas
from pipelab.schedules.blocks import v_half, v_min
from pipelab.schedules.builders import eager_one_f_one_b, gpipe, one_f_one_b, sequential
from pipelab.schedules.dual_pipe import dual_pipe_v
from pipelab.schedules.interleaved import interleaved, looped_bfs
from pipelab.schedules.schedule import Schedule
from pipelab.schedules.zero_bubble import zero_bubble_h1, zero_bubble_h2, zero_bubble_v

__all__ = ["BUILDERS", "Builder", "Formula", "build", "paper_bubble", "title_of"]


class Formula(NamedTuple):
    """A figure of a schedule, on paper.

    Attributes:
        text: as a reader sees it: p ranks, m microbatches, v stages per rank.
        value: (p, m, v) -> the figure; None where the text does not hold for all of them.
        some: the same where it holds for some of them only; None for the others.
    """

    text: str
    value: Callable[[int, int, int], float] | None = None
    some: Callable[[int, int, int], float | None] = lambda p, m, v: None


@dataclass(frozen=True)
class Builder:
    """One schedule of the literature: the entry of the catalogue.

    Attributes:
        name: the string that commands and controls use, such as ``"1f1b"``.
        function: (num_ranks, num_microbatches) -> Schedule; where the stages per rank can be
            chosen, they are its third argument.
        stages_per_rank: 1 or 2 where it is fixed, None where it can be chosen.
        title: for people; without one, the name.
        mark: a letter for charts.
        bubble: the bubble fraction with free messages and stages that take equally long.
        peak: the most activations on any rank, in microbatches of a rank's slice of the model.
        per_rank: microbatches that it wants for each rank, at least.
        torch: the class of torch.distributed.pipelining that runs the same order, if there is one.
        claims: its formulas with their conditions, for any costs.
    """

    name: str
    function: Callable[..., Schedule]
    stages_per_rank: int | None = 1
    title: str = ""
    mark: str = "?"
    bubble: Formula | None = None
    peak: Formula | None = None
    per_rank: int = 0
    torch: str | None = None
    claims: tuple[formulas.Claim, ...] = ()

    def fewest(self, num_ranks: int) -> int:
        """The fewest microbatches that so many ranks can run it with."""
        return max(1, self.per_rank * num_ranks)

    def build(self, num_ranks: int, num_microbatches: int, stages_per_rank: int = 2) -> Schedule:
        """The schedule of these sizes; a fixed number of stages per rank stays as it is."""
        if self.stages_per_rank is None:
            return self.function(num_ranks, num_microbatches, stages_per_rank)
        return self.function(num_ranks, num_microbatches)


_FLUSH = Formula("(p−1)/(m+p−1)", lambda p, m, v: (p - 1) / (m + p - 1))
_LOOPED = Formula(
    "(p−1)/(vm+p−1)",
    some=lambda p, m, v: (p - 1) / (v * m + p - 1) if m % p == 0 else None,
)
_ALL = Formula("m", lambda p, m, v: m)
_WINDOW = Formula("min(m, p)", lambda p, m, v: min(m, p))
_TWO_WINDOWS = Formula("min(m, 2p−1)", lambda p, m, v: min(m, 2 * p - 1))

BUILDERS = {
    builder.name: builder
    for builder in (
        Builder(
            "sequential",
            sequential,
            title="sequential",
            mark="S",
            bubble=Formula("(p−1)/p", lambda p, m, v: (p - 1) / p),
            peak=Formula("1", lambda p, m, v: 1),
            claims=formulas.SEQUENTIAL,
        ),
        Builder(
            "gpipe",
            gpipe,
            title="GPipe",
            mark="G",
            bubble=_FLUSH,
            peak=_ALL,
            torch="ScheduleGPipe",
            claims=formulas.GPIPE,
        ),
        Builder(
            "1f1b",
            one_f_one_b,
            title="1F1B",
            mark="1",
            bubble=_FLUSH,
            peak=_WINDOW,
            torch="Schedule1F1B",
            claims=formulas.ONE_F_ONE_B,
        ),
        Builder(
            "eager_1f1b",
            eager_one_f_one_b,
            title="eager 1F1B",
            mark="e",
            bubble=_FLUSH,
            peak=_TWO_WINDOWS,
            claims=formulas.EAGER_ONE_F_ONE_B,
        ),
        Builder(
            "interleaved",
            interleaved,
            stages_per_rank=None,
            title="interleaved 1F1B",
            mark="i",
            bubble=_LOOPED,
            peak=Formula("p + (p−1)/v"),
            torch="ScheduleInterleaved1F1B",
            claims=formulas.INTERLEAVED,
        ),
        Builder(
            "looped_bfs",
            looped_bfs,
            stages_per_rank=None,
            title="looped, breadth first",
            mark="L",
            bubble=_LOOPED,
            peak=_ALL,
            claims=formulas.LOOPED_BFS,
        ),
        Builder(
            "zero_bubble_h1",
            zero_bubble_h1,
            title="zero bubble H1",
            mark="H",
            bubble=Formula("(p−1)/(3m+p−1)"),
            peak=_WINDOW,
            torch="ScheduleInterleavedZeroBubble",  # with one stage per rank
            claims=formulas.ZERO_BUBBLE_H1,
        ),
        Builder(
            "zero_bubble_h2",
            zero_bubble_h2,
            title="zero bubble H2",
            mark="2",
            peak=_TWO_WINDOWS,
            claims=formulas.ZERO_BUBBLE_H2,
        ),
        Builder(
            "zero_bubble_v",
            zero_bubble_v,
            stages_per_rank=2,
            title="zero bubble V",
            mark="V",
            peak=Formula("p"),
            torch="ScheduleZBVZeroBubble",
            claims=formulas.ZERO_BUBBLE_V,
        ),
        Builder(
            "dual_pipe_v",
            dual_pipe_v,
            stages_per_rank=2,
            title="DualPipeV",
            mark="D",
            peak=Formula("p + 1/2"),
            per_rank=2,
            torch="ScheduleDualPipeV",
            claims=formulas.DUAL_PIPE_V,
        ),
        Builder(
            "v_half",
            v_half,
            stages_per_rank=2,
            title="V-Half",
            mark="h",
            peak=Formula("min(m, (p+2)//2)", lambda p, m, v: min(m, (p + 2) // 2)),
            claims=formulas.V_HALF,
        ),
        Builder(
            "v_min",
            v_min,
            stages_per_rank=2,
            title="V-Min",
            mark="v",
            peak=Formula("min(m, (p+4)//3)", lambda p, m, v: min(m, (p + 4) // 3)),
            claims=formulas.V_MIN,
        ),
    )
}


def title_of(name: str) -> str:
    """A schedule's name for people; one that is not in the catalogue keeps its own.

    >>> title_of("gpipe"), title_of("mine.csv")
    ('GPipe', 'mine.csv')
    """
    return name if name not in BUILDERS else BUILDERS[name].title or name


def paper_bubble(
    name: str, num_ranks: int, num_microbatches: int, stages_per_rank: int | None = None
) -> tuple[str, float] | None:
    """The bubble fraction's formula and its value; None where no formula holds for these sizes.

    Without ``stages_per_rank``, a formula that names it (v) is left out.

    >>> paper_bubble("sequential", 4, 8)
    ('(p−1)/p', 0.75)
    >>> paper_bubble("interleaved", 3, 6, 3)
    ('(p−1)/(vm+p−1)', 0.1)
    """
    formula = BUILDERS[name].bubble if name in BUILDERS else None
    if formula is None:
        return None
    if formula.value is not None:
        return formula.text, formula.value(num_ranks, num_microbatches, stages_per_rank or 1)
    if stages_per_rank is None:
        return None
    value = formula.some(num_ranks, num_microbatches, stages_per_rank)
    return None if value is None else (formula.text, value)


def build(name: str, num_ranks: int, num_microbatches: int, stages_per_rank: int = 2) -> Schedule:
    """A schedule by its builder's name. Raises ScheduleError for an unknown one.

    >>> build("1f1b", 2, 3).num_microbatches
    3
    """
    if name not in BUILDERS:
        raise ScheduleError(f"no schedule is called {name!r}: choose from {', '.join(BUILDERS)}")
    return BUILDERS[name].build(num_ranks, num_microbatches, stages_per_rank)

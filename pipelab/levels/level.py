"""A level: a puzzle whose pieces are tokens, and its rules: what counts, the goal, par and stars.

    seconds   goal          half way          par
              ├──── * ────────┼───── ** ────────┤ *** ──>      shorter is better
              and no rank holds more than the limit, else there is no star

The tokens are placed by the learner; how long the step takes is what the simulator says of them.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from pipelab.action import Kind
from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule
from pipelab.schedules.communication import Lowered, lower
from pipelab.schedules.counts import peak_activations
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace
from pipelab.words import number

MOST_STARS = 3
_SAME = 1e-9  # seconds: what sums of the same costs in another order may differ by


@dataclass(frozen=True)
class Level:
    """One puzzle.

    Attributes:
        name: in addresses and in what a browser remembers, so it stays as it is.
        title: for people.
        task: what to do and what is new, in plain words.
        start: a row of tokens for each rank, to begin with. Who has which stage counts, and whether
            backwards are whole or in two halves; the order is the learner's.
        hints: three, from a question to nearly the answer.
        learnt: what one knows afterwards, and where it is done.
        goal: seconds; a step that takes no longer earns a star.
        par: seconds of the shortest step that the search knows of; ``orders.par`` computes it.
        times: seconds of a stage's F, I and W.
        num_microbatches: those of a solution.
        limit: microbatches whose activations a rank may hold at once; None for no limit.
        latency: of a message, in seconds.
        slow: for each rank, how many times as long its actions take; () where all are alike.
        may_move: whether stages may move to other ranks.
        may_stamp: whether the start is a block of one microbatch, to be repeated.
        schedule: in the catalogue, what a solution is an example of; "" for none.
    """

    name: str
    title: str
    task: str
    start: tuple[str, ...]
    hints: tuple[str, str, str]
    learnt: str
    goal: float
    par: float
    times: tuple[float, float, float]
    num_microbatches: int
    limit: int | None = None
    latency: float = 0.0
    slow: tuple[float, ...] = ()
    may_move: bool = False
    may_stamp: bool = False
    schedule: str = ""

    @cached_property
    def rows(self) -> list[list[str]]:
        """The tokens to begin with."""
        return [row.split() for row in self.start]

    @cached_property
    def schedule_at_start(self) -> Schedule:
        """The same as a schedule; it may be one that cannot run."""
        return Schedule.from_tokens(self.rows, self.name)

    @cached_property
    def homes(self) -> dict[int, int]:
        """The rank of each stage at the start."""
        return self.schedule_at_start.rank_of_stage

    @property
    def num_ranks(self) -> int:
        """How many ranks take part (p)."""
        return len(self.start)

    @property
    def num_stages(self) -> int:
        """How many stages the model is cut into."""
        return len(self.homes)

    @cached_property
    def is_split(self) -> bool:
        """Whether its backwards are in two halves, I and W."""
        return any("W" in row for row in self.start)

    def cost(self, parts: float = 1) -> Cost:
        """What actions cost of so many stages that stand together on a rank of usual speed."""
        f, i, w = (seconds * parts for seconds in self.times)
        return Cost(f, i, w, latency=self.latency)

    def cost_of(self, schedule: Schedule) -> Cost:
        """What each stage costs where it is now: on a slow rank, more."""
        if not self.slow:
            return self.cost()
        ranks = schedule.rank_of_stage
        factors = [self.slow[ranks[stage]] for stage in range(schedule.num_stages)]
        f, i, w = ([seconds * factor for factor in factors] for seconds in self.times)
        return Cost(f, i, w, latency=self.latency)

    def lowered(self, schedule: Schedule) -> Lowered:
        """The schedule with its messages.

        Raises:
            ScheduleError: it cannot run, or is other work than the level's.
        """
        self._check_ranks(schedule)
        found = lower(schedule)
        self._check_work(schedule)
        return found

    def _check_ranks(self, schedule: Schedule) -> None:
        """Before all else: a stage on another rank is a fault here, in a schedule it is none."""
        if self.may_move:
            return
        for rank, row in enumerate(schedule.ranks):
            for place, action in enumerate(row):
                home = self.homes.get(action.stage)
                if home not in (None, rank):
                    raise ScheduleError(
                        f"{action.token} is on rank {rank}: in this level stage {action.stage} "
                        f"stays on rank {home}. Move it back, or undo",
                        [(rank, place)],
                    )

    def _check_work(self, schedule: Schedule) -> None:
        """It can run: is it all of the level's work?"""
        sizes = schedule.num_stages, schedule.num_microbatches
        if sizes != (self.num_stages, self.num_microbatches):
            wanted = (number(self.num_stages, "stage"), number(self.num_microbatches, "microbatch"))
            found = (number(sizes[0], "stage"), number(sizes[1], "microbatch"))
            way = "repeat the block" if self.may_stamp else "undo, or begin again"
            raise ScheduleError(
                f"This can run, but it is {' and '.join(found)}; the level wants "
                f"{' and '.join(wanted)}: {way}"
            )
        kinds = Counter(action.kind for row in schedule.ranks for action in row)
        if kinds[Kind.W] and not self.is_split:
            raise ScheduleError("In this level backwards stay whole: B, and no I and W")


class Score(NamedTuple):
    """What a schedule is worth in a level.

    Attributes:
        trace: its prediction.
        held: the most microbatches that each rank holds at once.
        over: the ranks that hold more than the limit.
        stars: 0 to 3.
    """

    trace: Trace
    held: tuple[float, ...]
    over: tuple[int, ...]
    stars: int

    @property
    def seconds(self) -> float:
        """How long the step takes."""
        return self.trace.duration

    @property
    def with_the_coach(self) -> "Score":
        """The same where the coach has moved: the third star is for who did it alone."""
        return self._replace(stars=min(self.stars, MOST_STARS - 1))


def score(level: Level, schedule: Schedule) -> Score:
    """Predict a schedule and count its stars.

    Raises:
        ScheduleError: it cannot run, or is other work than the level's.
    """
    trace = simulate(level.lowered(schedule), level.cost_of(schedule))
    held = peak_activations(schedule)
    limit = level.limit or level.num_microbatches
    over = tuple(rank for rank, peak in enumerate(held) if peak > limit)
    stars = 0 if over else stars_for(level, trace.duration)
    return Score(trace, held, over, stars)


def stars_for(level: Level, seconds: float) -> int:
    """The stars of a step that keeps to the limit: goal, half way to par, par.

    >>> from pipelab.levels.puzzles import LEVELS
    >>> [stars_for(LEVELS[0], seconds) for seconds in (0.130, 0.090)]
    [0, 3]
    """
    marks = (level.goal, (level.goal + level.par) / 2, level.par)
    return sum(seconds <= mark + _SAME for mark in marks)

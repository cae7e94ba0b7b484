"""A schedule says WHAT: for each rank, the ordered tuple of its actions. Pure data.

``lower`` judges it and adds its messages; then the engine runs it and the simulator predicts it.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from operator import itemgetter

from pipelab.action import COMPUTE, Action, Overlap, Slice, needs
from pipelab.errors import ScheduleError
from pipelab.schedules.walk import walk

_AROUND = 4  # cells shown on each side of a marked one
_MANY_ROWS = 12
_BYTE_ORDER_MARK = "\N{BOM}"
_OTHER_COMMA = re.compile(r"^\W*\d+[A-Z]+\d+[;\s]+\d")  # what spreadsheets write in some countries

_OF_SLICE = re.compile(r"\d+[A-Z_]+\d+\.\d{1,4}")

Rows = Sequence[Sequence[Action]]


@dataclass(frozen=True)
class Schedule:
    """For each rank, its actions in order.

    Attributes:
        ranks: one tuple of actions for each rank.
        name: for titles and source lines.
        overlaps: pairs that run as one action; in its row the F stands just before the B.
        shares: where microbatches are cut in slices, the share of the tokens in each; empty for
            equal ones.
    """

    ranks: tuple[tuple[Action, ...], ...]
    name: str = "custom"
    overlaps: frozenset[Overlap] = frozenset()
    shares: tuple[float, ...] = ()

    @classmethod
    def from_tokens(cls, rows: Iterable[Iterable[str]], name: str = "custom") -> "Schedule":
        """A schedule written by hand, one row of tokens for each rank.

        >>> Schedule.from_tokens([["0F0", "0B0"], ["1F0", "1B0"]]).num_stages
        2
        """
        tokens = [[*row] for row in rows]
        slices = _slices(token for row in tokens for token in row)
        return cls._of_parsed([[_parse(token, slices) for token in row] for row in tokens], name)

    @classmethod
    def from_csv(cls, text: str, name: str = "custom") -> "Schedule":
        """A schedule from torch's compute-only CSV: one line per rank, tokens between commas.

        Empty fields are skipped: torch writes idle slots that way. So are quotes, and the byte
        order mark that a spreadsheet puts in front. Raises ScheduleError with the line of what is
        no token.
        """
        rows: list[list[Overlap | Action]] = []
        lines = text.replace(_BYTE_ORDER_MARK, "").strip().splitlines()
        slices = _slices(re.split(r"[\s,\"]+", text))
        for number, line in enumerate(lines, start=1):
            fields = [field.strip().strip('"') for field in line.split(",")]
            try:
                rows.append([_parse(field, slices) for field in fields if field])
            except ScheduleError as error:
                hint = "\nA comma stands between two tokens." if _OTHER_COMMA.search(line) else ""
                raise ScheduleError(f"line {number} (rank {number - 1}): {error}{hint}") from None
        return cls._of_parsed(rows, name)

    @classmethod
    def _of_parsed(cls, rows: Sequence[Sequence[Overlap | Action]], name: str) -> "Schedule":
        overlaps = frozenset(x for row in rows for x in row if isinstance(x, Overlap))
        return cls(
            tuple(tuple(a for x in row for a in _actions(x)) for row in rows),
            name,
            overlaps=overlaps,
        )

    def to_csv(self) -> str:
        """The same text back: one line per rank, tokens between commas."""
        return "".join(",".join(row) + "\n" for row in self.tokens)

    @property
    def tokens(self) -> list[list[str]]:
        """For each rank its tokens; two actions that overlap are one."""
        if not self.overlaps:
            return [[a.token for a in row] for row in self.ranks]
        second = {both.backward for both in self.overlaps}
        first = {both.forward: both.token for both in self.overlaps}
        rows = ([a for a in row if a not in second] for row in self.ranks)
        return [[first.get(a) or a.token for a in row] for row in rows]

    @cached_property
    def together(self) -> dict[Action, Action]:
        """For each F that overlaps, its B."""
        return dict(self.overlaps)

    @property
    def num_ranks(self) -> int:
        """How many ranks take part (p)."""
        return len(self.ranks)

    @cached_property
    def rank_of_stage(self) -> dict[int, int]:
        """The rank that each stage is on (the first that names it; validate wants just one)."""
        ranks = reversed([*enumerate(self.ranks)])
        return {stage: rank for rank, row in ranks for stage in set(map(itemgetter(0), row))}

    @cached_property
    def num_stages(self) -> int:
        """How many stages the model is cut into."""
        return max(self.rank_of_stage, default=-1) + 1

    @cached_property
    def num_microbatches(self) -> int:
        """How many microbatches a batch is cut into (m)."""
        return -(-self.num_pieces // self.slices)

    @cached_property
    def num_pieces(self) -> int:
        """How many parts flow through the stages: microbatches, or all their slices."""
        numbers = {number for row in self.ranks for number in set(map(itemgetter(2), row))}
        return max(numbers - {None}, default=-1) + 1

    @cached_property
    def slices(self) -> int:
        """How many slices each microbatch's sequence is cut into; 1 where it is whole."""
        numbers = (a.microbatch for row in self.ranks for a in row)
        first = next((number for number in numbers if number is not None), None)
        return first.of if isinstance(first, Slice) else 1

    @cached_property
    def compute(self) -> "Schedule":
        """The same schedule without messages, reductions and optimizer steps."""
        if all(a.kind in COMPUTE for row in self.ranks for a in row):
            return self
        rows = (tuple(a for a in row if a.kind in COMPUTE) for row in self.ranks)
        return Schedule(tuple(rows), self.name, overlaps=self.overlaps, shares=self.shares)

    def stages_of(self, rank: int) -> tuple[int, ...]:
        """The stages that live on a rank, in order of their numbers."""
        return tuple(sorted({action.stage for action in self.ranks[rank]}))

    def __str__(self) -> str:
        """A grid of tokens: one row per rank, one column per slot in which every action takes 1."""
        p, m = self.num_ranks, self.num_microbatches
        head = f"{self.name}: {p} rank{'s' * (p != 1)}, {m} microbatch{'es' * (m != 1)}"
        head += f" of {self.slices} slices" * (self.slices > 1)
        return f"{head}\n{_grid(self)}"


def _parse(token: str, slices: int | None = None) -> Overlap | Action:
    return Overlap.parse(token) or Action.parse(token, slices)


def _actions(parsed: Overlap | Action) -> Iterable[Action]:
    return parsed if isinstance(parsed, Overlap) else [parsed]


def _slices(tokens: Iterable[str]) -> int | None:
    """How many slices a microbatch has by the tokens that name one; None without any."""
    places = [int(token.rpartition(".")[2]) for token in tokens if _OF_SLICE.fullmatch(token)]
    return max(places) + 1 if places else None


def refusal(text: str, rows: Rows, cells: Collection[tuple[int, int]]) -> ScheduleError:
    """The error that says so and shows the rows with each (rank, position) marked, ``>2F0<``.

    Long rows are cut around the marked cells; of many ranks only those with a mark are shown.
    """
    ranks = sorted({rank for rank, _ in cells}) if len(rows) > _MANY_ROWS else range(len(rows))
    lines = [text]
    for rank in ranks:
        row, here = rows[rank], [i for r, i in cells if r == rank]
        first = max(0, min(here, default=0) - _AROUND)
        last = min(len(row), max(here, default=_AROUND) + _AROUND + 1)
        tokens = [
            f">{row[i].token}<" if i in here else f" {row[i].token} " for i in range(first, last)
        ]
        dots = " ..." * (first > 0), " ..." * (last < len(row))
        lines.append(f"  rank {rank} {dots[0]}{''.join(tokens)}{dots[1]}".rstrip())
    return ScheduleError("\n".join(lines), cells)


def _grid(schedule: Schedule) -> str:
    """One row per rank, one column per slot in which every action takes 1; ``·`` is idle.

    A B that overlaps with the F before it is written with a plus: ``0F3 +7B1``.
    """
    second = {both.backward for both in schedule.overlaps}

    def text(action: Action) -> str:
        return "+" * (action in second) + action.token

    try:
        slots = _slots(schedule, text)
    except ScheduleError:  # a schedule that cannot run must still print, or nobody can repair it
        slots = [{i: text(a) for i, a in enumerate(row)} for row in schedule.ranks]
    width = max((len(t) for row in slots for t in row.values()), default=1)
    length = max((max(row, default=-1) + 1 for row in slots), default=0)
    return "\n".join(
        f"rank {rank}  " + " ".join(row.get(i, "·").ljust(width) for i in range(length)).rstrip()
        for rank, row in enumerate(slots)
    )


def _slots(schedule: Schedule, text: Callable[[Action], str]) -> list[dict[int, str]]:
    """For each rank, slot -> token, as the walk with unit times places them."""
    programs = [[a for a in row if a.kind in COMPUTE] for row in schedule.ranks]
    wanted = partial(needs, num_stages=schedule.num_stages)
    starts = walk(programs, wanted, together=schedule.together)
    return [
        {int(start): text(action) for start, action in zip(*row, strict=True)}
        for row in zip(starts, programs, strict=True)
    ]

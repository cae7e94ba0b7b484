"""Steps in flight: the ranks have been given them, and their results are still to come.

Each rank runs the steps one after the other, as a training loop on real devices does: from its own
STEP straight to its next first action, while other ranks still work on the step before.

    rank 0  │0F0│0F1│···│0B0│0B1│STEP│0F0│0F1│···│0B0│0B1│STEP│
    rank 1  ····│1F0│1B0│1F1│1B1│STEP│···│1F0│1B0│1F1│1B1│STEP│
            └─────── step 0 ────────┘└──────── step 1 ────────┘
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pipelab.engine.driver.result import StepResult, step_result
from pipelab.engine.ranks import Ranks
from pipelab.errors import EngineError, RankError
from pipelab.trace import Setting


@dataclass
class Flight:
    """One such step.

    Attributes:
        number: of the step in the training.
        setting: what it is recorded with.
        result: None until all ranks have answered.
    """

    number: int
    setting: Setting
    result: StepResult | None = field(default=None, init=False)


class Flights:
    """All steps that these ranks have been given and not yet answered, the oldest first."""

    def __init__(self, ranks: Ranks):
        self._ranks = ranks
        self._flying: deque[Flight] = deque()

    def start(self, commands: Sequence[object], number: int, setting: Setting) -> Flight:
        """Give the ranks one more step."""
        self._ranks.give(commands)
        self._flying.append(Flight(number, setting))
        return self._flying[-1]

    def result(self, flight: Flight) -> StepResult:
        """Wait for a step. Raises RankError, which names the step if it was not the only one."""
        while flight.result is None:
            self._land()
        return flight.result

    def land_all(self) -> None:
        """Wait for all steps; each keeps its result. Raises as ``result``."""
        while self._flying:
            self._land()

    def _land(self) -> None:
        is_one_of_many = len(self._flying) > 1
        flight = self._flying.popleft()
        try:
            flight.result = step_result(self._ranks.answers(), flight.setting)
        except RankError as error:
            self._flying.clear()
            if is_one_of_many or flight.number:
                error.args = (f"{error}\n{_which(flight.number)}",)
            raise


def follow_each_other(
    begin: Callable[[], Flight], result: Callable[[Flight], StepResult], in_flight: int
) -> Iterator[StepResult]:
    """Begin steps, at most so many before the oldest one's result is taken; the results in order.

    ``begin`` ends all with StopIteration. What else it raises comes after the results of the steps
    before; what a rank raises ends all at once.
    """
    flying: deque[Flight] = deque()
    end: Exception | None = None
    while end is None or flying:
        try:
            while end is None and len(flying) < in_flight:
                flying.append(begin())
        except EngineError:
            raise
        except Exception as error:
            end = error
        if flying:
            yield result(flying.popleft())
    if not isinstance(end, StopIteration):
        raise end


def _which(step: int) -> str:
    return f"This was in step {step} of the training (the first is step 0)."

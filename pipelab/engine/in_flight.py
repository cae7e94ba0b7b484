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
class StepInFlight:
    """One such step.

    Attributes:
        number: of the step in the training.
        setting: what it is recorded with.
        result: None until all ranks have answered.
    """

    number: int
    setting: Setting
    result: StepResult | None = field(default=None, init=False)


class StepsInFlight:
    """All steps that these ranks have been given and not yet answered, the oldest first."""

    def __init__(self, ranks: Ranks):
        self._ranks = ranks
        self._given: deque[StepInFlight] = deque()

    def start(self, commands: Sequence[object], number: int, setting: Setting) -> StepInFlight:
        """Give the ranks one more step."""
        self._ranks.give(commands)
        self._given.append(StepInFlight(number, setting))
        return self._given[-1]

    def result(self, step: StepInFlight) -> StepResult:
        """Wait for a step. Raises RankError, which names the step if it was not the only one."""
        while step.result is None:
            self._finish_oldest()
        return step.result

    def finish_all(self) -> None:
        """Wait for all steps; each keeps its result. Raises as ``result``."""
        while self._given:
            self._finish_oldest()

    def _finish_oldest(self) -> None:
        is_one_of_many = len(self._given) > 1
        step = self._given.popleft()
        try:
            step.result = step_result(self._ranks.answers(), step.setting)
        except RankError as error:
            self._given.clear()
            if is_one_of_many or step.number:
                error.args = (f"{error}\n{_which(step.number)}",)
            raise


def follow_each_other(
    begin: Callable[[], StepInFlight], result: Callable[[StepInFlight], StepResult], in_flight: int
) -> Iterator[StepResult]:
    """Begin steps, at most so many before the oldest one's result is taken; the results in order.

    ``begin`` ends all with StopIteration. What else it raises comes after the results of the steps
    before; what a rank raises ends all at once.
    """
    given: deque[StepInFlight] = deque()
    end: Exception | None = None
    while end is None or given:
        try:
            while end is None and len(given) < in_flight:
                given.append(begin())
        except EngineError:
            raise
        except Exception as error:
            end = error
        if given:
            yield result(given.popleft())
    if not isinstance(end, StopIteration):
        raise end


def _which(step: int) -> str:
    return f"This was in step {step} of the training (the first is step 0)."

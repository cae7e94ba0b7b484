"""What actions and messages cost, in seconds: the currency of predict and of paced record."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelab.action import Action, Kind
from pipelab.errors import ScheduleError

Seconds = float | Sequence[float]


@dataclass(frozen=True)
class Cost:
    """Seconds per action, as one number or one per stage, and per message.

    A full backward B takes ``backward_input + backward_weight``.

    Attributes:
        forward: F.
        backward_input: I.
        backward_weight: W.
        latency: what a message takes between two ranks.

    >>> Cost(forward=1, backward_input=1, backward_weight=1).seconds(Action(0, Kind.B, 0))
    2
    """

    forward: Seconds = 1.0
    backward_input: Seconds = 1.0
    backward_weight: Seconds = 1.0
    latency: float = 0.0

    def __post_init__(self) -> None:
        for name in ("forward", "backward_input", "backward_weight", "latency"):
            value = getattr(self, name)
            for number in value if isinstance(value, Sequence) else (value,):
                if not 0.0 <= number < float("inf"):
                    raise ScheduleError(f"Cost({name}={value!r}): seconds are numbers >= 0")

    def seconds(self, action: Action) -> float:
        """How long a rank is busy with an action. Messages and steps take 0."""
        match action.kind:
            case Kind.F:
                return self._of(self.forward, action.stage)
            case Kind.I:
                return self._of(self.backward_input, action.stage)
            case Kind.W:
                return self._of(self.backward_weight, action.stage)
            case Kind.B:
                both = (self.backward_input, self.backward_weight)
                return sum(self._of(value, action.stage) for value in both)
            case _:
                return 0.0

    @staticmethod
    def _of(value: Seconds, stage: int) -> float:
        if not isinstance(value, Sequence):
            return value
        if stage >= len(value):
            raise ScheduleError(
                f"the cost names {len(value)} stages, the schedule has a stage {stage}: "
                f"give one number per stage, or one for all"
            )
        return value[stage]

    def __str__(self) -> str:
        """For source lines: ``F 10 ms, B 20 ms``."""

        def ms(*values: Seconds) -> str:
            rows = [list(v) if isinstance(v, Sequence) else [v] for v in values]
            longest = max(len(row) for row in rows)
            sums = [sum(row[i % len(row)] for row in rows) * 1000 for i in range(longest)]
            texts = [f"{round(value, 6):g}" for value in sums]
            return texts[0] if len(set(texts)) == 1 else "/".join(texts)

        text = f"F {ms(self.forward)} ms, B {ms(self.backward_input, self.backward_weight)} ms"
        return text + (f", latency {ms(self.latency)} ms" if self.latency else "")

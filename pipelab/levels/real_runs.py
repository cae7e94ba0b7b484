"""What real ranks made of each level: a recording of an order at par, and its gradients' check.

``python -m tests.levels.record`` makes them, and checks every gradient against one process before
it writes a file.
"""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pipelab.levels.level import Level
from pipelab.schedules.recognition import order_of
from pipelab.simulator import simulate
from pipelab.trace import Trace
from pipelab.words import number

FOLDER = Path(__file__).with_name("recorded")
_GRADIENTS = FOLDER / "gradients.json"


class Recording(NamedTuple):
    """One run on real ranks.

    Attributes:
        trace: recorded, paced with the level's costs.
        exact: how many parameters' gradients were, bit for bit, those of one process.
        parameters: how many there are; the others were within rounding.
    """

    trace: Trace
    exact: int
    parameters: int

    @property
    def gradients(self) -> str:
        """What the check of its gradients found, as a sentence."""
        return gradients_text(self.exact, self.parameters)

    def predicted(self, level: Level) -> Trace:
        """The prediction of the order that ran."""
        schedule = order_of(self.trace)
        return simulate(schedule, level.cost_of(schedule))


def gradients_text(exact: int, parameters: int) -> str:
    """Of gradients that were compared with one process and found right.

    >>> gradients_text(32, 32)
    'Gradients checked: all 32 parameters are bit for bit those of one process.'
    """
    if exact == parameters:
        return (
            f"Gradients checked: all {parameters} parameters are bit for bit those of one process."
        )
    rest = number(parameters - exact, "parameter")
    return (
        f"Gradients checked: {exact} of {parameters} parameters are bit for bit those of one "
        f"process, {rest} within rounding."
    )


@cache
def recording_of(name: str) -> Recording | None:
    """The recording of a level; None where there is none."""
    path = FOLDER / f"{name}.json"
    if not path.is_file() or not _GRADIENTS.is_file():
        return None
    facts = json.loads(_GRADIENTS.read_text("utf-8")).get(name)
    return Recording(Trace.load(path), *facts) if facts else None

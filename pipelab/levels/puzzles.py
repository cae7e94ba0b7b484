"""The twelve levels, from first steps to zero bubble under a memory cap and a slow rank's layout.

``par`` of each is what ``orders.par`` finds; a test compares the two, and looks for anything
shorter.
"""

from pipelab.levels.first_puzzles import FIRST
from pipelab.levels.last_puzzles import LAST
from pipelab.levels.level import Level

LEVELS: tuple[Level, ...] = (*FIRST, *LAST)


def level_of(name: str) -> Level:
    """The level of this name; the first one where there is none.

    >>> level_of("the-v").title
    'The V'
    """
    return next((level for level in LEVELS if level.name == name), LEVELS[0])

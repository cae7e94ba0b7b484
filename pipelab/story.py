"""A lesson's own words for a trace: cooks and minutes in place of ranks and seconds.

A trace that has a story (``Setting.story``) is shown in its words everywhere: in pictures, tables,
sentences and in the browser. Its numbers stay seconds. Ground floor: imports nothing of pipelab.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple


class Story(NamedTuple):
    """The words of a story.

    Attributes:
        nouns: for each of our words, the story's.
        unit: what its times count.
        seconds: how many of them last as long as one unit.
    """

    nouns: Mapping[str, str]
    unit: str
    seconds: float


MINUTE = 0.1  # seconds that stand for a minute in the kitchen

STORIES = {
    "kitchen": Story(
        {
            "rank": "cook",
            "ranks": "cooks",
            "microbatch": "dish",
            "microbatches": "dishes",
            "stage": "station",
            "stages": "stations",
            "computed": "worked",
            "compute": "cook",
        },
        "min",
        MINUTE,
    ),
}
_SECONDS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}
_TIME = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)([ \N{NO-BREAK SPACE}])(s|ms|µs)\b")


def reworded(text: str, story: str) -> str:
    """A text in a story's words; ``story=""``: as it is. ``{rank}``, to be filled in, stays.

    >>> reworded("rank 0 waits for 200 ms with microbatch {microbatch}", "kitchen")
    'cook 0 waits for 2 min with dish {microbatch}'
    """
    if not story:
        return text
    nouns, unit, seconds = STORIES[story]
    words = re.compile(
        rf"(?<![{{\w])({'|'.join(nouns)}|{'|'.join(map(str.title, nouns))})(?![}}\w])"
    )

    def noun(found: re.Match[str]) -> str:
        word = nouns[found[0].lower()]
        return word if found[0].islower() else word.title()

    def time(found: re.Match[str]) -> str:
        count = round(float(found[1]) * _SECONDS[found[3]] / seconds, 4)
        return f"{count:.3g}{found[2]}{unit}"

    return _TIME.sub(time, words.sub(noun, text))


def all_reworded(value: object, story: str) -> object:
    """The same for all texts in lists and in the values of dictionaries."""
    match value:
        case str():
            return reworded(value, story)
        case dict():
            return {key: all_reworded(each, story) for key, each in value.items()}
        case list() | tuple():
            return [all_reworded(each, story) for each in value]
        case _:
            return value

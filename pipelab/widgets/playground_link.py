"""The playground's address, read back: ``#s=gpipe&m=16`` becomes what the page would ask.

``front/address.js`` writes it, and says how rows of tokens are packed. Here is the other half, for
commands: a schedule that was made on the page runs on real ranks.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import parse_qsl, unquote

from pipelab.errors import ScheduleError
from pipelab.widgets.playground_answers import Request

_PART = re.compile(r"!(?P<other>[^!]*)!|(?:\.(?P<stage>\d+))?(?P<kind>[FBIW])(?P<number>\d+)?")
_TIME = re.compile(r"\d+\.?\d*|\.\d+")
_NAMES = frozenset("spmvfiwlkt")


def is_link(text: str) -> bool:
    """Whether a text is an address of the playground, or the end of one from its ``#`` on."""
    return "#" in text


def request_of(link: str) -> Request:
    """What the page would ask for. Raises ScheduleError for an address that says nothing clear.

    >>> request_of("https://host/playground/#s=gpipe&m=16").m
    16
    >>> request_of("#p=2&m=1&t=FB-FB").rows
    [['0F0', '0B0'], ['1F0', '1B0']]
    """
    state = link.partition("#")[2].replace("+", "%2B")
    said = dict(parse_qsl(state, keep_blank_values=True))
    said = {name: text for name, text in said.items() if text or name == "t"}
    if unknown := [name for name in said if name not in _NAMES]:
        raise ScheduleError(
            f"{link!r} is no address of the playground: it has {unknown[0]!r}. Copy it from the "
            f"page by the button Copy link"
        )
    usual = Request()
    return Request(
        schedule=said.get("s", usual.schedule),
        p=_size(said, "p", usual.p),
        m=_size(said, "m", usual.m),
        v=_size(said, "v", usual.v),
        f=_milliseconds(said, "f", usual.f),
        i=_milliseconds(said, "i", usual.i),
        w=_milliseconds(said, "w", usual.w),
        l=_latency(said, usual.l),
        k=_size(said, "k", usual.k),
        rows=rows_of(said["t"]) if "t" in said else None,
    )


def rows_of(text: str) -> list[list[str]]:
    """Rows of tokens from their short form. Raises ScheduleError for a text that is none.

    A stage is left out where it is that of the token before (at first: the rank), a microbatch
    where it is the next one of its stage and kind.
    """
    return [[*_tokens(row, rank)] for rank, row in enumerate(text.split("-"))]


def _tokens(row: str, rank: int) -> Iterator[str]:
    stage, following, place = str(rank), dict[str, int](), 0
    while place < len(row):
        part = _PART.match(row, place)
        if part is None:
            raise ScheduleError(
                f"the schedule of rank {rank} cannot be read at {row[place : place + 12]!r}: copy "
                f"the whole address of the page, in quotation marks"
            )
        place = part.end()
        if part["other"] is not None:
            yield unquote(part["other"])
            continue
        stage = part["stage"] or stage
        key = stage + part["kind"]
        number = int(part["number"]) if part["number"] else following.get(key, 0)
        following[key] = number + 1
        yield f"{stage}{part['kind']}{number}"


def _size(said: Mapping[str, str], name: str, usual: int) -> int:
    text = said.get(name, str(usual))
    if not text.isascii() or not text.isdigit():
        raise ScheduleError(f"{name}={text} of the playground's address is no whole number")
    return int(text)


def _milliseconds(
    said: Mapping[str, str], name: str, usual: float | Sequence[float]
) -> float | Sequence[float]:
    if name not in said:
        return usual
    parts = [part.strip() for part in said[name].split(",")]
    if not all(map(_TIME.fullmatch, parts)):
        raise ScheduleError(
            f"{name}={said[name]} of the playground's address is no time in milliseconds"
        )
    numbers = [float(part) for part in parts]
    return numbers[0] if len(numbers) == 1 else numbers


def _latency(said: Mapping[str, str], usual: float) -> float:
    found = _milliseconds(said, "l", usual)
    if isinstance(found, Sequence):
        raise ScheduleError(f"l={said['l']} of the playground's address is more than one number")
    return found

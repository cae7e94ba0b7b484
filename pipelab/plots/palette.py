"""Colour, letter and hatch of each kind of event: three signs, so that colour alone never matters.

The eight colours of Okabe and Ito (2008, "Color Universal Design"), distinct for people with
any common colour vision. A message has the colour of what it carries: strong where it is sent,
light where it is received.
"""

from collections.abc import Container
from typing import NamedTuple

from pipelab.action import Kind
from pipelab.words import KINDS, REASONS

BLACK, WHITE = "#000000", "#FFFFFF"
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"

PALE = "#EFEFEF"
IDLE = "#DDDDDD"  # light enough for black on it, dark enough to be seen on white
QUIET = "#595959"  # small print: 7:1 on white
BUSY = "#B87700"  # amber: what was recorded while the machine was busy


class Style(NamedTuple):
    """How one kind of event is drawn."""

    colour: str
    letter: str
    hatch: str


STYLES: dict[Kind, Style] = {
    Kind.F: Style(BLUE, "F", ""),
    Kind.B: Style(ORANGE, "B", "//"),
    Kind.I: Style(VERMILLION, "I", "\\\\"),
    Kind.W: Style(GREEN, "W", ".."),
    Kind.REDUCE_GRAD: Style(YELLOW, "R", "++"),
    Kind.STEP: Style(PURPLE, "S", "xx"),
    Kind.SEND_F: Style(BLUE, "", ""),
    Kind.RECV_F: Style(SKY, "", "..."),
    Kind.SEND_B: Style(ORANGE, "", "//"),
    Kind.RECV_B: Style(YELLOW, "", "\\\\"),
    Kind.WAIT: Style(PALE, "", "////"),
}


def idle_legend(reasons: Container[str]) -> dict[str, tuple[str, ...]]:
    """Entries of a legend for these reasons to be idle, each with the reasons that look like that.

    >>> idle_legend({"waiting", "done"})
    {'idle: waits for a result': ('waiting',), 'idle: nothing left to compute': ('done',)}
    """
    found = {}
    for alike in IDLE_SHADES:
        if present := tuple(reason for reason in alike if reason in reasons):
            found[f"idle: {', or '.join(REASONS[reason].name for reason in present)}"] = present
    return found


def legend_text(kind: Kind) -> str:
    """The entry of a kind in a legend: its letter, if it has one, and its name.

    >>> legend_text(Kind.F), legend_text(Kind.SEND_F)
    ('F forward', 'send F')
    """
    return f"{STYLES[kind].letter} {KINDS[kind].legend}".strip()


def luminance(colour: str) -> float:
    """Relative luminance of ``#RRGGBB``, from 0 (black) to 1 (white), as WCAG 2 defines it."""
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _channels(colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, from 1 to 21; text wants 4.5.

    >>> round(contrast(BLACK, WHITE))
    21
    """
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def text_on(fill: str) -> str:
    """Black or white, whichever reads better on a fill.

    >>> text_on(BLUE), text_on(ORANGE)
    ('#FFFFFF', '#000000')
    """
    return max((BLACK, WHITE), key=lambda ink: contrast(ink, fill))


def mix(colour: str, other: str, share: float) -> str:
    """A colour with a share (0 to 1) of another one in it.

    >>> mix("#000000", "#FFFFFF", 0.5)
    '#808080'
    """
    pairs = zip(_channels(colour), _channels(other), strict=True)
    return "#" + "".join(f"{round(255 * (a + (b - a) * share)):02X}" for a, b in pairs)


def shade(colour: str, place: int, of: int) -> str:
    """A rank's stages from dark to light: the first keeps the colour, the last is 60 % white."""
    return mix(colour, WHITE, 0.6 * place / (of - 1)) if of > 1 else colour


def edge(fill: str) -> str:
    """Outline and hatch of a box: the fill, darker, so that it shows on white and on itself."""
    return mix(fill, BLACK, 0.35)


def _channels(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


# Reasons to be idle that look alike, and their shade: the same as in widgets/front/timeline.css.
IDLE_SHADES: dict[tuple[str, ...], str] = {
    ("waiting",): IDLE,
    ("message",): mix(IDLE, PURPLE, 0.3),
    ("imbalance",): mix(IDLE, VERMILLION, 0.38),
    ("done", "step"): mix(WHITE, IDLE, 0.38),
    ("overhead", "blocked"): mix(IDLE, BLACK, 0.2),
}


def idle_shade(reason: str) -> str:
    """The colour of idle time that has this reason."""
    return next(colour for alike, colour in IDLE_SHADES.items() if reason in alike)

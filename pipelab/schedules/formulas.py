"""What papers say of their schedules, as data: a formula, and the condition under which it holds.

A formula without its condition misleads, and two papers' formulas differ where their conditions
do. ``pipelab.simulator.claims`` compares each with a simulation, ``pipelab formulas`` with a
recording on real ranks too.

All seconds are those of a rank's *whole slice* of the model, v stages: F, I and W, B = I + W.
Several papers write B for our I, and some count the F, I and W of one stage.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple


class Figure(StrEnum):
    """What a formula is about."""

    IDLE = "idle"  # seconds of the step in which a rank does not compute; the rank that has most
    SPAN = "span"  # ... between its own first start and its own last end alone
    PEAK = "peak"  # the most activations on any rank, in microbatches of a rank's slice


_TIMES = ("F", "I", "W", "latency", "overlapped")


class Case(NamedTuple):
    """Sizes, and seconds (or other units) of a rank's whole slice of the model.

    Attributes:
        p, m, v: ranks, microbatches, stages per rank.
        F, I, W: forward, input gradient, weight gradient.
        latency: of each message.
        overlapped: F&B, an F and a B that overlap; 0: as long as one after the other.

    >>> Case(4, 8).B
    2.0
    """

    p: int
    m: int
    v: int = 1
    F: float = 1.0
    I: float = 1.0  # noqa: E741 - the field's letter
    W: float = 1.0
    latency: float = 0.0
    overlapped: float = 0.0

    @property
    def FB(self) -> float:
        """An F and a B that overlap."""
        return self.overlapped or self.F + self.B

    @property
    def B(self) -> float:
        """A full backward."""
        return self.I + self.W

    def times(self, factor: float) -> "Case":
        """The same sizes, everything so many times as slow."""
        slow = {name: getattr(self, name) * factor for name in _TIMES}
        return self._replace(**slow)

    @property
    def is_free(self) -> bool:
        """Whether messages take no time."""
        return self.latency == 0 or self.p == 1

    @property
    def is_even(self) -> bool:
        """Whether messages are free and F = I = W."""
        return self.is_free and self.F == self.I == self.W


class Claim(NamedTuple):
    """One formula of one schedule.

    Attributes:
        figure: what it is about.
        text: as papers write it.
        value: the figure of a case.
        condition: in words, when the two agree exactly; empty: always.
        holds: whether a case fulfils it.
        source: paper and section.
    """

    figure: Figure
    text: str
    value: Callable[[Case], float]
    condition: str = ""
    holds: Callable[[Case], bool] = lambda case: True
    source: str = ""


_FREE = "messages are free"
_GPIPE = "Huang et al. 2019, arXiv 1811.06965, 2.3"
_FLUSH = "Narayanan et al. 2021, arXiv 2104.04473, 2.2"
_LOOPED = "Lamy-Poirier 2022, arXiv 2211.05953, 4.1"
_ZERO = "Qi et al. 2023, arXiv 2401.10241"
_BLOCKS = "Qi et al. 2024, arXiv 2405.15362, 4"
_COUNTED = "counted in the order itself"


def _flush(source: str) -> Claim:
    text = "(p−1)(F+B)"
    return Claim(
        Figure.IDLE, text, lambda c: (c.p - 1) * (c.F + c.B), _FREE, lambda c: c.is_free, source
    )


def _looped(source: str) -> Claim:
    return Claim(
        Figure.IDLE,
        "(p−1)(F+B)/v",
        lambda c: (c.p - 1) * (c.F + c.B) / c.v,
        "messages are free, m ≥ p",
        lambda c: c.is_free and c.m >= c.p,
        source,
    )


def _peak(text: str, value: Callable[[Case], float], source: str = _COUNTED) -> Claim:
    return Claim(Figure.PEAK, text, value, source=source)


_WINDOW = _peak("min(m, p)", lambda c: min(c.m, c.p), _FLUSH)
_TWO_WINDOWS = _peak("min(m, 2p−1)", lambda c: min(c.m, 2 * c.p - 1))
_ALL = _peak("m", lambda c: c.m, _GPIPE)

SEQUENTIAL = (
    Claim(
        Figure.IDLE,
        "m(p−1)(F+B)",
        lambda c: c.m * (c.p - 1) * (c.F + c.B),
        _FREE,
        lambda c: c.is_free,
        _COUNTED,
    ),
    _peak("1", lambda c: 1),
)
GPIPE = (_flush(_GPIPE), _ALL)
ONE_F_ONE_B = (_flush(_FLUSH), _WINDOW)
EAGER_ONE_F_ONE_B = (_flush("Zhuang et al. 2022, arXiv 2211.05322"), _TWO_WINDOWS)
INTERLEAVED = (
    _looped(_FLUSH),
    Claim(
        Figure.PEAK,
        "p + (p−1)/v",
        lambda c: c.p + (c.p - 1) / c.v,
        "m is a multiple of p, m ≥ 2p",
        lambda c: c.p == 1 or (c.m % c.p == 0 and c.m >= 2 * c.p),
        _FLUSH,
    ),
)
LOOPED_BFS = (_looped(_LOOPED), _ALL)
ZERO_BUBBLE_H1 = (
    Claim(
        Figure.IDLE,
        "(p−1)(F+I−W)",
        lambda c: (c.p - 1) * (c.F + c.I - c.W),
        "messages are free, m ≥ p, W ≤ F, W ≤ I",
        lambda c: c.p == 1 or (c.is_free and c.m >= c.p and min(c.F, c.I) >= c.W),
        f"{_ZERO}, 2.2",
    ),
    _WINDOW,
)
ZERO_BUBBLE_H2 = (
    Claim(
        Figure.SPAN,
        "(p−1)(F+I−2W)",
        lambda c: (c.p - 1) * (c.F + c.I - 2 * c.W),
        "messages are free, m ≥ 2p−1, W ≤ F, 2W ≤ F+I",
        lambda c: (
            c.p == 1 or (c.is_free and c.m >= 2 * c.p - 1 and c.W <= c.F and 2 * c.W <= c.F + c.I)
        ),
        f"{_ZERO}, 2.2",
    ),
    _TWO_WINDOWS,
)
_FULL_V = "messages are free, F = I = W, m ≥ 2p−1"
ZERO_BUBBLE_V = (
    Claim(
        Figure.SPAN,
        "0",
        lambda c: 0,
        _FULL_V,
        lambda c: c.p == 1 or (c.is_even and c.m >= 2 * c.p - 1),
        f"{_ZERO}, 6",
    ),
    Claim(
        Figure.IDLE,
        "(p−1)F/2",
        lambda c: (c.p - 1) * c.F / 2,
        _FULL_V,
        lambda c: c.p == 1 or (c.is_even and c.m >= 2 * c.p - 1),
        _COUNTED,
    ),
    _peak("min(m, p)", lambda c: min(c.m, c.p), f"{_ZERO}, 6"),
)
DUAL_PIPE_V = (
    Claim(
        Figure.IDLE,
        "(p−1)(F&B+B−3W)/2",
        lambda c: (c.p - 1) * (c.FB + c.B - 3 * c.W) / 2,
        "messages are free, F = I = W, F&B = F + B",
        lambda c: c.p == 1 or (c.is_even and c.FB == c.F + c.B),
        "DeepSeek-AI 2024, arXiv 2412.19437, 3.2",
    ),
    _peak("p + 1/2", lambda c: c.p + 0.5, "DeepSeek-AI 2024, arXiv 2412.19437, 3.2"),
)
V_HALF = (
    Claim(
        Figure.IDLE,
        "(7p−4)F/4, p odd: (7p−7)F/4",
        lambda c: (7 * c.p - (7 if c.p % 2 else 4)) * c.F / 4,
        "messages are free, F = I = W, m > p/2",
        lambda c: c.p == 1 or (c.is_even and 2 * c.m > c.p),
        _COUNTED,
    ),
    _peak("min(m, (p+2)//2)", lambda c: min(c.m, (c.p + 2) // 2), _BLOCKS),
)
V_MIN = (
    Claim(
        Figure.IDLE,
        "(4p−5)F/2, 3 divides p: (4p−3)F/2",
        lambda c: (4 * c.p - (3 if c.p % 3 == 0 else 5)) * c.F / 2 if c.p > 1 else 0.0,
        "messages are free, F = I = W, m > 1",
        lambda c: c.p == 1 or (c.is_even and c.m > 1),
        _COUNTED,
    ),
    _peak("min(m, (p+4)//3)", lambda c: min(c.m, (c.p + 4) // 3), _BLOCKS),
)

"""What actions and messages cost, as the command line says it: numbers with or without a unit."""

import argparse
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from pipelab.cli.console import CommandError

if TYPE_CHECKING:
    from pipelab.simulator import Cost

RULE = (
    "A TIME is a plain number, in units that mean what you like, or all of them have a unit: 10ms, "
    "0.5s, 80us. F, I and W are for a rank's whole slice of the model: each of its v stages takes "
    "1/v of that. A backward B takes I + W."
)
_SECONDS = {"units": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
_TIME = re.compile(r"(\d+\.?\d*|\.\d+)(s|ms|us|)")


class Price(NamedTuple):
    """One field of ``Cost`` as an option.

    ``like``: the field that it equals where it is left out, else 0. ``of_slice``: given for a
    rank's slice of the model, and so shared among its stages.
    """

    label: str
    name: str
    words: str
    like: str = ""
    of_slice: bool = False


PRICES = (
    Price("F", "forward", "F, the forward (1)", of_slice=True),
    Price("I", "backward_input", "I, the backward's input gradient (as F)", "forward", True),
    Price("W", "backward_weight", "W, its weight gradient (as I)", "backward_input", True),
    Price("F&B", "overlapped", "F&B, an F and a B that overlap (as F + B)", of_slice=True),
    Price("latency", "latency", "each message between two ranks (0)"),
)


ALWAYS = PRICES[:3]  # F, I and W: what every schedule pays


class Amount(NamedTuple):
    """A time as it was typed: ``Amount(10.0, "ms")``."""

    value: float
    unit: str


class Prices(NamedTuple):
    """A price for everything, in seconds or in units.

    Attributes:
        values: by field of ``Cost``.
        unit: ``units``, or the unit to show times in: ``s``, ``ms``, ``us``.
        lengths: of the microbatches, as factors of F, I and W; empty where all are alike.
    """

    values: dict[str, float]
    unit: str
    lengths: tuple[float, ...] = ()

    def cost(self, stages_per_rank: float = 1.0) -> "Cost":
        """The price of one stage's actions: all stages of the model are equal."""
        from pipelab.simulator import Cost

        share = 1 / stages_per_rank
        cost = Cost(**{p.name: self.values[p.name] * (share if p.of_slice else 1) for p in PRICES})
        return cost.by_microbatch(self.lengths) if self.lengths else cost

    def ideal(self, num_microbatches: int) -> float:
        """Seconds that each rank computes in all."""
        each = sum(self.values[price.name] for price in ALWAYS)
        return each * (sum(self.lengths) if self.lengths else num_microbatches)

    def text(self, value: float) -> str:
        """A time in this unit, the unit's name left out."""
        return f"{value / _SECONDS[self.unit]:.6g}"

    def __str__(self) -> str:
        """All prices on one line, and their unit."""
        shown = [p for p in PRICES if p in ALWAYS or self.values[p.name]]
        text = ", ".join(f"{p.label} {self.text(self.values[p.name])}" for p in shown)
        lengths = "/".join(f"{length:g}" for length in self.lengths)
        return f"{text} {self.unit}" + (f", microbatches of {lengths}" if lengths else "")


def amount(text: str) -> Amount:
    """A time from the command line.

    >>> amount("10ms")
    Amount(value=10.0, unit='ms')
    """
    if not (match := _TIME.fullmatch(text)) or not math.isfinite(float(match[1])):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: 2, 0.5, 10ms, 0.5s or 80us")
    return Amount(float(match[1]), match[2] or "units")


def lengths(text: str) -> tuple[float, ...]:
    """Lengths of microbatches from the command line.

    >>> lengths("1,0.5,3")
    (1.0, 0.5, 3.0)
    """
    try:
        found = tuple(float(length) for length in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 < length < math.inf for length in found):
        raise argparse.ArgumentTypeError(f"{text!r}: lengths are numbers above 0, such as 1,1,3,1")
    return found


def prices(typed: Mapping[str, Amount | None], lengths: tuple[float, ...] | None = None) -> Prices:
    """Fill in what was left out. Raises CommandError if only some times have a unit.

    >>> str(prices({"forward": Amount(2.0, "units"), "backward_weight": Amount(1.0, "units")}))
    'F 2, I 2, W 1 units'
    """
    given = {"forward": Amount(1.0, "units")}
    given |= {name: amount for name, amount in typed.items() if amount}
    units = list(dict.fromkeys(a.unit for a in given.values() if a.value)) or ["units"]
    if "units" in units and len(units) > 1:  # but 0 is 0 in every unit
        seen = ", ".join(f"{name} {a.value:g} {a.unit}" for name, a in given.items())
        raise CommandError(f"{seen}: give all times a unit, --forward too, or none of them")
    values: dict[str, float] = {}
    for price in PRICES:
        value, unit = given.get(price.name, Amount(values.get(price.like, 0.0), "s"))
        values[price.name] = value * _SECONDS[unit]
    return Prices(values, units[0], lengths or ())

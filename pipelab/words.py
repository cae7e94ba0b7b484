"""The words that every output uses: kinds, reasons for idleness, numbers with units, columns.

Plots, widgets, the command line, lessons and error messages take them from here; the browser is
given the same texts (see ``pipelab.widgets.phrases``). This is the ground floor: it imports nothing
of pipelab, so kinds and reasons are looked up by their text form (``Kind`` is a string).
"""

import re
from collections.abc import Sequence
from typing import NamedTuple


class KindWords(NamedTuple):
    """How one kind of action is named.

    Attributes:
        name: what is done, such as ``"input gradient"``.
        legend: the entry in a legend, beside the letter of the box if it has one.
        bytes: what the bytes of an event of this kind are, follows their number.
    """

    name: str
    legend: str
    bytes: str = ""


KINDS: dict[str, KindWords] = {
    "F": KindWords("forward", "forward", "kept for its backward"),
    "B": KindWords("backward", "backward", "of gradients created in it"),
    "I": KindWords("input gradient", "input gradient", "of gradients created in it"),
    "W": KindWords("weight gradient", "weight gradient", "of gradients created in it"),
    "SEND_F": KindWords("sending its output", "send F", "sent"),
    "RECV_F": KindWords("opening a buffer for its input", "receive F", "of buffer"),
    "SEND_B": KindWords("sending its input gradient", "send B", "sent"),
    "RECV_B": KindWords("opening a buffer for its gradient", "receive B", "of buffer"),
    "REDUCE_GRAD": KindWords("gradient all-reduce", "reduce gradients", "reduced"),
    "STEP": KindWords("optimizer step", "optimizer step", "of optimizer state created in it"),
    "WAIT": KindWords("waiting for a message", "idle, waiting for a message"),
}


class ReasonWords(NamedTuple):
    """How one reason for idle time is named: everywhere by the same words.

    Attributes:
        name: in pictures, legends and tables; follows "idle:", and "most:".
        short: the first words of it, where there is little room.
        rank: the same as what a rank does, follows "rank 1" or "it".
    """

    name: str
    short: str
    rank: str


REASONS: dict[str, ReasonWords] = {
    "waiting": ReasonWords("waits for a result", "waits", "waits for a result"),
    "imbalance": ReasonWords(
        "waits for a rank with more work", "waits", "waits for a rank with more work"
    ),
    "message": ReasonWords("message in transit", "in transit", "waits for a message in transit"),
    "step": ReasonWords("end of the step", "end", "is at the end of the step"),
    "blocked": ReasonWords("blocked in a SEND", "blocked", "is blocked in a SEND"),
    "done": ReasonWords("nothing left to compute", "nothing left", "has nothing left to compute"),
    "overhead": ReasonWords("held up by this machine", "held up", "is held up by this machine"),
}

# Largest first, with the size in seconds or bytes. Bytes count in units of 1000, as disks do.
TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_LEAST = 5e-10  # seconds; what is less is rounding, not time
BYTE_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))


def number(count: int, noun: str) -> str:
    """A count and its noun.

    >>> number(1, "rank"), number(4, "microbatch")
    ('1 rank', '4 microbatches')
    """
    plural = noun + ("es" if noun.endswith("ch") else "s")
    return f"{count} {noun if count == 1 else plural}"


def table_text(rows: Sequence[Sequence[object]], left: int = 1) -> str:
    """Rows in columns of text: the first ``left`` of them to the left, the others to the right.

    >>> print(table_text([["who", "ms"], ["a", 10], ["bcd", 1]]))
    who  ms
    a    10
    bcd   1
    """
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = []
    for row in texts:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        cells[:left] = [cell.ljust(width) for cell, width in zip(row, widths[:left], strict=False)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def percent(share: float, decimals: int = 0) -> str:
    """A share of 1 as ``27 %``; never ``-0 %``."""
    return f"{abs(round(100 * share, decimals)):.{decimals}f} %"


def unbroken(text: str) -> str:
    """A text in which no line can end between a number and its unit, or what it is the number of.

    >>> unbroken("12 ms, F 12 ms") == "12~ms, F~12~ms".replace("~", "\N{NO-BREAK SPACE}")
    True
    >>> unbroken("p = 4, 5 MB/s, 5 %") == "p~=~4, 5~MB/s, 5~%".replace("~", "\N{NO-BREAK SPACE}")
    True
    """
    unit = r"(?<=\d) (?=%|s\b|ms\b|µs|min\b|[kMGT]?B\b)"
    size = r"(?<=\b[pmv]) (?== \d)|(?<=\b[pmv] =) (?=\d)"
    return re.sub(rf"{unit}|(?<=\b[FB]) (?=\d)|{size}", "\N{NO-BREAK SPACE}", text)


def points(difference: float) -> str:
    """A difference of two shares of 1, in percentage points.

    >>> points(0.042), points(-0.3), points(-1e-9)
    ('+4.2 points', '−30.0 points', '0.0 points')
    """
    return f"{_signed(100 * difference)} points"


def change(ratio: float) -> str:
    """A ratio as what is gained or lost.

    >>> change(1.042), change(0.5)
    ('+4.2 %', '−50.0 %')
    """
    return f"{_signed(100 * (ratio - 1))} %"


def _signed(value: float) -> str:
    """One decimal, with its sign; what is rounded to 0 has none."""
    text = f"{value:+.1f}".replace("-", "−")
    return text if text[1:] != "0.0" else "0.0"


def bytes_text(count: int) -> str:
    """Bytes in units of 1000, as disks and networks count: 1 kB = 1000 B.

    >>> bytes_text(999), bytes_text(1_500_000)
    ('999 B', '1.5 MB')
    """
    if count < 1000:
        return f"{count} B"
    # 999.95 of a unit would be rounded to 1000.0 of it
    size, unit = next(u for u in BYTE_UNITS if count >= 0.99995 * u[0])
    return f"{count / size:.1f} {unit}"


def time_text(seconds: float, beside: float = 0.0) -> str:
    """Seconds in the unit that suits them, three digits; no time in the unit of one ``beside`` it.

    >>> time_text(0.0123), time_text(33), time_text(1e-12), time_text(0.0, beside=0.0123)
    ('12.3 ms', '33 s', '0 s', '0 ms')
    """
    if abs(seconds) < _LEAST:
        return f"0 {time_unit(beside)[1] if beside >= _LEAST else 's'}"
    factor, unit = time_unit(seconds)
    value = seconds * factor
    return f"{value:.3g} {unit}" if value < 999.5 else f"{value:.0f} {unit}"


def time_unit(seconds: float) -> tuple[float, str]:
    """The unit for times up to ``seconds``, and how many of it are one second.

    >>> time_unit(0.02)
    (1000.0, 'ms')
    """
    size, unit = next((u for u in TIME_UNITS if seconds >= u[0]), TIME_UNITS[-1])
    return 1 / size, unit


def signed_time(seconds: float, beside: float = 0.0) -> str:
    """A difference of two times, with its sign; none is in the unit of a time ``beside`` it.

    >>> signed_time(-0.02), signed_time(0.0), signed_time(0.0, beside=0.33)
    ('−20 ms', '0 s', '0 ms')
    """
    if abs(seconds) < _LEAST:
        return time_text(0.0, beside)
    return f"{'−' if seconds < 0 else '+'}{time_text(abs(seconds))}"

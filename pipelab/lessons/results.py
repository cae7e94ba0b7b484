"""What a check found: named results, with expected beside got, and how they are shown."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from pipelab.trace import Trace
from pipelab.words import table_text, unbroken

_HEADS = ("", "what", "expected", "got")
_WIDEST = 44  # characters of a column in text; what is longer follows below the table
_LINE = 90  # characters of a line below the table
_MOST = 1500  # characters of one text, however much an answer returned


class Result(NamedTuple):
    """One thing that was judged.

    Attributes:
        name: of the row, short, the same in each check.
        expected: in words or numbers.
        got: the same of the answer.
        ok: whether it is as expected.
        hint: what to do next if it is not ok.
        note: what a reader must know even where it is ok.
        call: of the answer that was judged, ready to copy; shown if it is not ok.
    """

    name: str
    expected: str
    got: str
    ok: bool
    hint: str = ""
    note: str = ""
    call: str = ""

    @property
    def remark(self) -> str:
        """What stands beside the row."""
        return _bounded(self.note if self.ok else " ".join(filter(None, (self.hint, self.note))))


class Shown(NamedTuple):
    """A timeline that is shown below the results."""

    title: str
    trace: Trace


@dataclass(frozen=True)
class Verdict:
    """What one check found.

    Attributes:
        name: of the exercise, such as ``"04.1"``.
        title: of the exercise, in words.
        results: one row for each thing that was judged.
        shown: timelines that the check recorded.
        below: what else there is to say, such as what the answer printed.
    """

    name: str
    title: str
    results: tuple[Result, ...]
    shown: tuple[Shown, ...] = ()
    below: str = ""

    @property
    def passed(self) -> bool:
        """Whether something was judged, and all of it is as expected."""
        return bool(self.results) and all(row.ok for row in self.results)

    @property
    def headline(self) -> str:
        """The outcome in one line."""
        good = sum(row.ok for row in self.results)
        word = "passed" if self.passed else "not yet"
        return f"{self.name} {self.title}: {word}, {good} of {len(self.results)}"

    def __str__(self) -> str:
        rows = [("ok" if r.ok else "NO", *map(_short, r[:3])) for r in self.results]
        lines = [self.headline, table_text([_HEADS, *rows], left=len(_HEADS))]
        said: set[str] = set()
        for result in self.results:
            for text in _below(result):
                _, _, words = text.partition(": ")
                lines += [] if words in said else [_wrapped(text)]  # each remark once
                said.add(words)
        return "\n".join([*lines, self.below] if self.below else lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        remarks = [*_remarks(self.results)]
        columns = (*_HEADS, "where to look") if any(remarks) else _HEADS
        body = "".join(
            f"<tr><td>{'ok' if r.ok else '<b>no</b>'}</td>"
            f'<th scope="row" style="text-align: left">{escape(unbroken(r.name))}{_called(r)}</th>'
            + "".join(_cell(text) for text in (*map(_shown, r[1:3]), remark)[: len(columns) - 2])
            + "</tr>"
            for r, remark in zip(self.results, remarks, strict=True)
        )
        heads = "".join(f'<th scope="col" style="text-align: left">{name}</th>' for name in columns)
        table = f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
        below = f"<pre>{escape(self.below)}</pre>" if self.below else ""
        pictures = "".join(map(_picture, self.shown))
        return f"<p><b>{escape(self.headline)}</b></p>{table}{below}{pictures}"


def _remarks(results: Sequence[Result]) -> Iterator[str]:
    """What stands beside each row; what stands beside an earlier one is not said twice."""
    said: dict[str, str] = {}
    for result in results:
        first = said.setdefault(result.remark, result.name)
        is_first = first == result.name or not result.remark
        yield result.remark if is_first else f"as for: {first}"


def _below(result: Result) -> Iterator[str]:
    """What stands below the table for one row: what did not fit into it, and what to do next."""
    if not result.ok:
        for head, text in zip(_HEADS[2:], result[1:3], strict=True):
            if _short(text) != text:
                yield f"{result.name}, {head}: {_bounded(text)}"
    if result.call:
        yield f"{result.name}: {result.call}"
    if result.remark:
        yield f"{result.name}: {result.remark}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDEST else line[: _WIDEST - 1] + "…"


def _bounded(text: str) -> str:
    return text if len(text) <= _MOST else f"{text[:_MOST]}… ({len(text):,} characters)"


def _wrapped(text: str) -> str:
    """Lines that a narrow window shows whole; indented but for the first."""
    lines = [
        textwrap.wrap(line, _LINE, subsequent_indent="  ", break_on_hyphens=False) or [""]
        for line in text.splitlines()
    ]
    return "\n".join("\n".join(line) for line in lines)


def _called(result: Result) -> str:
    style = "font-weight: normal; overflow-wrap: anywhere"
    return f'<br><code style="{style}">{escape(result.call)}</code>' if result.call else ""


def _shown(text: str) -> str:
    """What was expected or got; what a learner may copy as code stands in no such cell."""
    return unbroken(_bounded(text))


def _cell(text: str) -> str:
    return f'<td style="text-align: left; white-space: pre-wrap">{escape(text)}</td>'


def _picture(shown: Shown) -> str:
    from pipelab.widgets.static_picture import png, still  # draws: only where somebody looks

    html = still(shown.trace, png(shown.trace))["text/html"]
    busy = shown.trace.warning  # or its title would pass for what the answer takes
    first = f"<b>{escape(busy)}</b> " if busy else ""
    return f"<p>{first}{escape(shown.title)}</p>{html}"

"""What a check found: named results, with expected beside got, and how they are shown."""

from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from pipelab.trace import Trace
from pipelab.words import table_text

_HEADS = ("", "what", "expected", "got")
_WIDEST = 44  # characters of a column in text


class Result(NamedTuple):
    """One thing that was judged. ``hint``: where to look if it is not ok."""

    name: str
    expected: str
    got: str
    ok: bool
    hint: str = ""


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
    """

    name: str
    title: str
    results: tuple[Result, ...]
    shown: tuple[Shown, ...] = ()

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
        hints: dict[str, str] = {}  # each once, with the first result that it belongs to
        for r in self.results:
            if not r.ok and r.hint:
                hints.setdefault(r.hint, r.name)
        lines += [f"{name}: {hint}" for hint, name in hints.items()]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><td>{'ok' if r.ok else '<b>no</b>'}</td>"
            f'<th scope="row" style="text-align: left">{escape(r.name)}</th>'
            + "".join(f'<td style="text-align: left">{escape(text)}</td>' for text in r[1:3])
            + f'<td style="text-align: left">{"" if r.ok else escape(r.hint)}</td></tr>'
            for r in self.results
        )
        heads = "".join(f'<th scope="col">{name}</th>' for name in (*_HEADS, "where to look"))
        table = f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
        return f"<p><b>{escape(self.headline)}</b></p>{table}{''.join(map(_picture, self.shown))}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDEST else line[: _WIDEST - 1] + "…"


def _picture(shown: Shown) -> str:
    from pipelab.widgets.static_picture import png, still  # draws: only where somebody looks

    html = still(shown.trace, png(shown.trace))["text/html"]
    return f"<p>{escape(shown.title)}</p>{html}"

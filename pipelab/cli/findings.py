"""What the doctor finds: one line each, with the remedy where something is wrong."""

import textwrap
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from pipelab.cli.terminal import say, width

_NAME = 12  # columns


class Finding(NamedTuple):
    """``FAIL`` makes the doctor's exit code 1; ``warn`` only tells."""

    level: Literal["ok", "warn", "FAIL"]
    name: str
    text: str
    remedy: str = ""


Check = Callable[[], Iterator[Finding]]


def run(name: str, check: Check) -> list[Finding]:
    """All findings of a check, each shown as it comes; a check that breaks is a finding too."""
    findings = []
    try:
        for finding in check():
            show(finding)
            findings.append(finding)
    except Exception as error:  # the doctor looks at broken installations: anything may be raised
        text = f"{type(error).__name__}: {error}"
        findings.append(Finding("FAIL", name, text, "mend this, then ask again"))
        show(findings[-1])
    return findings


def show(finding: Finding) -> None:
    """Level, name, text; the remedy on lines of its own."""
    head = f"{finding.level:<5} {finding.name:<{_NAME}} "
    indent = " " * len(head)
    first, *rest = finding.text.splitlines() or [""]
    _wrapped(first, head, indent)
    for line in rest:
        _wrapped(line, indent, indent)
    if finding.remedy:
        _wrapped(finding.remedy, indent + "-> ", indent + "   ")


def _wrapped(text: str, first: str, then: str) -> None:
    """Paths and commands stay whole: whoever copies one wants one piece."""
    say(
        textwrap.fill(
            text,
            width(),
            initial_indent=first,
            subsequent_indent=then,
            break_long_words=False,
            break_on_hyphens=False,
        )
    )

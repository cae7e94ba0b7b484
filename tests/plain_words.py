"""Words that a reader whose second language is English should not have to guess at.

Run it to see where they stand: ``python tests/plain_words.py`` prints file, line, word and what to
say instead. ``\\b`` would not see the parts of a name such as ``watch_ranks``; these patterns do.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
FOLDERS = ("pipelab", "tests", "notebooks")
SUFFIXES = (".py", ".js", ".mjs", ".css", ".md")
SAY = {
    "deal(s|t|ing|er)?": "give, split, assign",
    "board": "progress, status",
    "pin(s|ned|ning)?": "set the affinity of, fix",
    "seat(s|ed)?": "core, affinity",
    "crowd(ed)?": "load of a core, contention",
    "wires": "connections",
    "taste": "example, sample",
    "told": "said, reported",
    "untold": "not reported",
    "tells?": "says, reports",
    "ledger": "progress, accounts",
    "for ears": "for screen readers",
    "is through": "has finished",
    "how manieth": "which number",
    "by way of": "through, over",
    "lies": "is, stands",
    "of its own(?! (?:process|rows|layers|row|use))": "private, separate",
    "heeds?": "follows, takes into account",
    "goes on": "continues",
    "besides": "in addition",
    "for ever": "forever, without end",
    "lets? go": "release, free",
    "li(fe|ves)": "duration, lifetime",
    "mend(s|ed|ing)?": "repair",
    "watch(es|ed|er|ing)?": "observe, monitor, poll (which?)",
    "in vain": "too long, without success",
    "doors?": "lock, entry",
    "verdict": "result (only a lesson's check has a verdict)",
}
# Where a word is the right one: a part of the path, and the word.
RIGHT = {
    ("pipelab/lessons/", "verdict"),
    ("notebooks/", "verdict"),
    ("tests/lessons/", "verdict"),
    ("tests/browser/test_lessons.py", "verdict"),
    ("CONTRIBUTING.md", "verdict"),  # the glossary's
    ("widgets/editor.py", "verdict"),  # the earlier name of a property
    ("widgets/test_editor.py", "verdict"),
    ("bench/cases.py", "pin(s|ned|ning)?"),  # the earlier name of an option
    ("bench/test_bench.py", "pin(s|ned|ning)?"),
    ("tests/test_binder.py", "pin(s|ned|ning)?"),  # exact versions, as pip's documentation says
    ("notebooks/guides/gpus.md", "pin(s|ned|ning)?"),  # pinned memory, as PyTorch says
    ("engine/protocol/device.py", "pin(s|ned|ning)?"),
    ("engine/transport/backends.py", "pin(s|ned|ning)?"),
    ("notebooks/00_start_here.ipynb", "watch(es|ed|er|ing)?"),  # with one's eyes
}
WORD = {
    word: re.compile(rf"(?<![A-Za-z])({word.replace(' ', '[ _]')})(?![a-z])", re.IGNORECASE)
    for word in SAY
}


class Hit(NamedTuple):
    """A word that should be another."""

    place: str
    word: str
    say: str
    line: str


def pages() -> Iterator[tuple[str, str]]:
    """(path, text) of package, tests, pages and the notebooks' cells, their outputs left out."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")]
    for path in sorted([*paths, *ROOT.glob("*.*")]):
        name = path.relative_to(ROOT).as_posix()
        if path.suffix == ".ipynb":
            cells = json.loads(path.read_text("utf-8"))["cells"]
            yield name, "\n".join("".join(cell["source"]) for cell in cells)
        elif path.suffix in SUFFIXES and name not in ("CHANGELOG.md", "tests/plain_words.py"):
            yield name, path.read_text("utf-8")


def hits() -> Iterator[Hit]:
    """All that should be said otherwise. In a notebook, lines are counted over its cells."""
    for name, text in pages():
        for number, line in enumerate(text.splitlines(), 1):
            for word, pattern in WORD.items():
                found = pattern.search(line)
                if found and not any(part in name and word == right for part, right in RIGHT):
                    yield Hit(f"{name}:{number}", found[0], SAY[word], line.strip())


if __name__ == "__main__":
    for hit in hits():
        print(f"{hit.place}: {hit.word!r}, say {hit.say}: {hit.line[:100]}")

"""What learners have done, as Markdown: the report of one, and a table of a class."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipelab.lessons.chapters import exercise_names
from pipelab.lessons.progress_file import NAME, Progress, Row, read, reason
from pipelab.words import visible

_SET_ASIDE = re.compile(r"\.(damaged|reset)\d*\.json$")
_PASSED, _TRIED = "passed", "not yet"


def report(progress: Progress) -> str:
    """Two tables: exercises with their attempts and hints, predictions beside what was measured."""
    checks = [_check_row(name, row, progress) for name, row in sorted(progress["checks"].items())]
    predictions = [
        (name, _text(row.get("value", "none")), _text(row.get("measured", "not yet")))
        for name, row in sorted(progress["predictions"].items())
    ]
    good = sum(row[1] == _PASSED for row in checks)
    parts = ["# Progress", f"{good} of {len(checks)} exercises tried are passed."]
    if checks:
        heads = ("exercise", "result", "attempts", "hints", "what failed last")
        parts.append(_table(heads, checks))
    parts.append(_left_text(left(progress)))
    if predictions:
        parts += ["## Predictions", _table(("lesson", "predicted", "measured"), predictions)]
    return "\n\n".join(parts)


def passed(progress: Progress) -> list[str]:
    """The exercises that are passed, by name."""
    return [name for name, row in sorted(progress["checks"].items()) if _has_passed(row)]


def left(progress: Progress) -> list[str]:
    """The exercises of the course that are not passed yet, in its order."""
    done = set(passed(progress))
    return [name for name in exercise_names() if name not in done]


def _left_text(names: Sequence[str]) -> str:
    everything = len(exercise_names())
    if not names:
        return f"All {everything} exercises of the course are passed."
    return f"Left of the course's {everything} exercises: {', '.join(names)}."


def ledgers(folder: Path) -> dict[str, Path]:
    """The progress files below a folder, by learner: ``ann/progress.json`` or ``ann.json``.

    Where a learner has both, the second one is a row ``ann.json``.
    """
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*.json")):
        own = file.name == NAME
        if own or (file.parent == folder and not _SET_ASIDE.search(file.name)):
            inside = file.relative_to(folder)
            inner = inside.parent if own else Path(file.stem)
            name = inner.as_posix() if inner.parts else folder.name
            found[inside.as_posix() if name in found else name] = file
    return found


def class_table(files: Mapping[str, Path]) -> str:
    """One row for each learner, one column for each exercise: attempts, and whether it is passed.

    A file that cannot be read has a row that says why; it stays as it is.
    """
    known: dict[str, Progress] = {}
    unread: dict[str, str] = {}
    for learner, file in files.items():
        try:
            known[learner] = read(file)
        except (OSError, ValueError) as error:
            unread[learner] = f"cannot be read: {reason(error)}"
    exercises = sorted({name for progress in known.values() for name in progress["checks"]})
    rows = [_class_row(learner, known[learner], exercises) for learner in known]
    rows += [(learner, why, *("" for _ in exercises)) for learner, why in unread.items()]
    learners = [progress["checks"] for progress in known.values()]
    each = (str(sum(_has_passed(c.get(name)) for c in learners)) for name in exercises)
    heads = ("learner", _PASSED, *exercises)
    parts = ["# Progress of the class", _table(heads, [*rows, ("**passed by**", "", *each)])]
    parts.append("A number: attempts, one of them right. A number with `?`: none was right yet.")
    return "\n\n".join(parts)


def _class_row(learner: str, progress: Progress, exercises: Iterable[str]) -> tuple[str, ...]:
    checks = progress["checks"]
    good = sum(map(_has_passed, checks.values()))
    return learner, f"{good} of {len(checks)} tried", *(_cell(checks.get(n)) for n in exercises)


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    return f"{_text(row.get('attempts', 0))}{'' if _has_passed(row) else ' ?'}"


def _has_passed(row: Row | None) -> bool:
    return row is not None and row.get("passed") is True


def _check_row(name: str, row: Row, progress: Progress) -> tuple[str, ...]:
    failed = row.get("failed")
    return (
        name,
        _PASSED if _has_passed(row) else _TRIED,
        _text(row.get("attempts", 0)),
        _text(progress["hints"].get(name, {}).get("asked", 0)),
        ", ".join(map(str, failed)) if isinstance(failed, list) else "",
    )


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(_one_line, line)) + " |" for line in lines)


def _one_line(cell: str) -> str:
    return visible(" ".join(cell.split())).replace("|", "\\|")  # whoever wrote the file

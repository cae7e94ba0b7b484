"""The learner's progress: a JSON file on this machine, and a report of it. Nothing leaves it.

    {"checks": {"04.1": {"attempts": 2, "passed": true, "failed": []}},
     "hints": {"04.1": {"asked": 1}},
     "predictions": {"04": {"value": 0.27, "measured": 0.29}}}

In the folder ``$PIPELAB_HOME``, else ``$XDG_DATA_HOME/pipelab``, else ``~/.local/share/pipelab``.
"""

import fcntl
import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelab.files import replace_text

Row = dict[str, object]
Progress = dict[str, dict[str, Row]]

_PARTS = ("checks", "hints", "predictions")


def path() -> Path:
    """Where the file is, or would be."""
    if home := os.environ.get("PIPELAB_HOME"):
        return Path(home) / "progress.json"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "pipelab" / "progress.json"


def load() -> Progress:
    """All that was saved; empty if nothing was. A damaged file is renamed, not lost."""
    file = path()
    try:
        data = json.loads(file.read_text("utf-8"))
        parts = {part: data.get(part, {}) for part in _PARTS}
        if not all(isinstance(r, dict) for rows in parts.values() for r in rows.values()):
            raise ValueError("a row is no object")
        return parts
    except FileNotFoundError:
        pass
    except OSError as error:
        warnings.warn(f"{file} cannot be read ({error}): progress is empty", stacklevel=2)
    except (ValueError, AttributeError, RecursionError):
        aside = file.with_suffix(".damaged.json")
        os.replace(file, aside)
        warnings.warn(f"{file} was damaged: it is now {aside}, progress is empty", stacklevel=2)
    return {part: {} for part in _PARTS}


def add_attempt(name: str, passed: bool, failed: list[str]) -> None:
    """One more attempt at an exercise; what was passed once stays passed."""

    def change(progress: Progress) -> None:
        row = progress["checks"].setdefault(name, {"attempts": 0, "passed": False})
        row["attempts"] = _number(row.get("attempts")) + 1
        row["passed"] = bool(row.get("passed")) or passed
        row["failed"] = failed

    _change(change)


def count_hint(name: str) -> int:
    """One more hint was asked for; returns how many so far."""
    asked = 1

    def change(progress: Progress) -> None:
        nonlocal asked
        row = progress["hints"].setdefault(name, {})
        row["asked"] = asked = _number(row.get("asked")) + 1

    _change(change)
    return asked


def save_prediction(name: str, value: object) -> None:
    """What was predicted, in place of what was predicted before."""
    _change(lambda progress: progress["predictions"].setdefault(name, {}).update(value=value))


def save_measured(name: str, measured: object) -> None:
    """What the run gave."""
    _change(lambda progress: progress["predictions"].setdefault(name, {}).update(measured=measured))


def saved_prediction(name: str) -> object:
    """What was predicted, or None."""
    return load()["predictions"].get(name, {}).get("value")


def markdown(progress: Progress) -> str:
    """Two tables: exercises with their attempts and hints, predictions beside what was measured."""
    checks = [_check_row(name, row, progress) for name, row in sorted(progress["checks"].items())]
    predictions = [
        (name, _text(row.get("value", "none")), _text(row.get("measured", "not yet")))
        for name, row in sorted(progress["predictions"].items())
    ]
    passed = sum(row[1] == "passed" for row in checks)
    parts = ["# Progress", f"{passed} of {len(checks)} exercises tried are passed."]
    if checks:
        heads = ("exercise", "result", "attempts", "hints", "what failed last")
        parts.append(_table(heads, checks))
    if predictions:
        parts += ["## Predictions", _table(("lesson", "predicted", "measured"), predictions)]
    return "\n\n".join(parts)


def _check_row(name: str, row: Row, progress: Progress) -> tuple[str, ...]:
    failed = row.get("failed")
    return (
        name,
        "passed" if row.get("passed") else "not yet",
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
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _change(change: Callable[[Progress], None]) -> None:
    """Read, change and write, one notebook at a time. A lesson continues if it cannot be saved."""
    file = path()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            progress = load()
            change(progress)
            replace_text(file, json.dumps(progress, indent=1, sort_keys=True))
    except OSError as error:
        warnings.warn(f"progress is not kept: {file} cannot be written ({error})", stacklevel=3)

"""The learner's own ledger: a JSON file on this machine. Nothing leaves it.

    {"checks": {"04.1": {"attempts": 2, "passed": true, "failed": []}},
     "hints": {"04.1": 1},
     "predictions": {"04": {"value": 0.27, "measured": 0.29}}}

In the folder ``$PIPELAB_HOME``, else ``$XDG_DATA_HOME/pipelab``, else ``~/.local/share/pipelab``.
"""

import fcntl
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from pipelab.files import replace_text

Row = dict[str, object]
Ledger = dict[str, dict[str, Row]]

_PARTS = ("checks", "hints", "predictions")


def path() -> Path:
    """Where the ledger lies, or would."""
    if home := os.environ.get("PIPELAB_HOME"):
        return Path(home) / "progress.json"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "pipelab" / "progress.json"


def load() -> Ledger:
    """All that was noted; empty if nothing was. A damaged file is put aside, not lost."""
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
        warnings.warn(f"{file} cannot be read ({error}): progress starts anew", stacklevel=2)
    except (ValueError, AttributeError, RecursionError):
        aside = file.with_suffix(".damaged.json")
        os.replace(file, aside)
        warnings.warn(f"{file} was damaged: it is now {aside}, progress starts anew", stacklevel=2)
    return {part: {} for part in _PARTS}


def note_check(name: str, passed: bool, failed: list[str]) -> None:
    """One more attempt; what was passed once stays passed."""

    def change(ledger: Ledger) -> None:
        row = ledger["checks"].setdefault(name, {"attempts": 0, "passed": False})
        row["attempts"] = _number(row.get("attempts")) + 1
        row["passed"] = bool(row.get("passed")) or passed
        row["failed"] = failed

    _change(change)


def count_hint(name: str) -> int:
    """One more hint was asked for; how many that makes."""
    asked = 1

    def change(ledger: Ledger) -> None:
        nonlocal asked
        row = ledger["hints"].setdefault(name, {})
        row["asked"] = asked = _number(row.get("asked")) + 1

    _change(change)
    return asked


def note_prediction(name: str, value: object) -> None:
    """What was predicted, in place of what was predicted before."""
    _change(lambda ledger: ledger["predictions"].setdefault(name, {}).update(value=value))


def note_measured(name: str, measured: object) -> None:
    """What the run gave."""
    _change(lambda ledger: ledger["predictions"].setdefault(name, {}).update(measured=measured))


def prediction(name: str) -> object:
    """What was predicted, or None."""
    return load()["predictions"].get(name, {}).get("value")


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _change(change: Callable[[Ledger], None]) -> None:
    """Read, change and write, one notebook at a time. A lesson goes on if it cannot be written."""
    file = path()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            ledger = load()
            change(ledger)
            replace_text(file, json.dumps(ledger, indent=1, sort_keys=True))
    except OSError as error:
        warnings.warn(f"progress is not kept: {file} cannot be written ({error})", stacklevel=3)

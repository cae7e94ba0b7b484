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
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

from pipelab.files import check_plain, replace_text

Row = dict[str, object]
Progress = dict[str, dict[str, Row]]

NAME = "progress.json"
_PARTS = ("checks", "hints", "predictions")
_MOST_BYTES = 10_000_000


def path() -> Path:
    """Where the file is, or would be. Raises OSError if this user has no folder for it."""
    if home := os.environ.get("PIPELAB_HOME"):
        return Path(home) / NAME
    try:
        data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    except RuntimeError:
        raise OSError("this user has no home folder: set PIPELAB_HOME to one") from None
    return Path(data) / "pipelab" / NAME


def read(file: Path) -> Progress:
    """What a progress file holds, parts that this pipelab does not know included.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    try:
        check_plain(file, _MOST_BYTES)
    except ValueError as error:
        raise OSError(str(error)) from None
    try:
        data = json.loads(file.read_text("utf-8"))
        parts = {part: data.get(part, {}) for part in _PARTS}
        if not all(isinstance(row, dict) for rows in parts.values() for row in rows.values()):
            raise ValueError("a row is no object")
    except (AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    found: Progress = data | parts
    return found


def load() -> Progress:
    """All that was saved; empty if nothing was, or if it cannot be read. Nothing is changed."""
    try:
        return read(path())
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        _warn(f"{NAME} cannot be read ({error}): progress is shown as empty")
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


def reset(lesson: str = "") -> Path | None:
    """Forget what was saved, of one lesson or of all; a copy of the file stays beside it.

    Args:
        lesson: two digits; without it, everything is forgotten.

    Returns:
        The copy; None if nothing was saved, or nothing can be.
    """
    copy: Path | None = None

    def change(progress: Progress) -> None:
        nonlocal copy
        file = Path(os.path.realpath(path()))
        if file.exists():
            copy = _free_name(file, "reset")
            copy.write_text(file.read_text("utf-8"), "utf-8")
        for part in _PARTS:
            for name in [name for name in progress[part] if name.startswith(lesson)]:
                del progress[part][name]

    _change(change)
    return copy


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _change(change: Callable[[Progress], None]) -> None:
    """Read, change and write, one notebook at a time. A lesson continues if it cannot be saved.

    A damaged file is renamed first. One that cannot be read is left alone: nothing is saved then.
    """
    try:
        file = Path(os.path.realpath(path()))
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            progress = _repaired(file)
            change(progress)
            replace_text(file, json.dumps(progress, indent=1, sort_keys=True))
    except OSError as error:
        _warn(f"progress is not kept: {error}")


def _repaired(file: Path) -> Progress:
    """What the file holds; a damaged one gets another name, and nothing is known."""
    try:
        return read(file)
    except FileNotFoundError:
        pass
    except ValueError:
        aside = _free_name(file, "damaged")
        os.rename(file, aside)
        _warn(f"{file} was damaged: it is now {aside}, progress begins anew")
    return {part: {} for part in _PARTS}


def _free_name(file: Path, why: str) -> Path:
    """A name beside a file that no file has yet: ``progress.damaged.json``."""
    names = (file.with_suffix(f".{why}{n or ''}.json") for n in count())
    return next(name for name in names if not name.exists())


def _warn(text: str) -> None:
    with suppress(UserWarning):  # a notebook may have made errors of all warnings
        warnings.warn(text, stacklevel=4)

"""The learner's progress: a JSON file on this machine, and a report of it. Nothing leaves it.

    {"checks": {"04.1": {"attempts": 2, "passed": true, "failed": []}},
     "hints": {"04.1": {"asked": 1}},
     "predictions": {"04": {"value": 0.27, "measured": 0.29}}}

In the folder ``$PIPELAB_HOME``, else ``$XDG_DATA_HOME/pipelab``, else ``~/.local/share/pipelab``.
"""

import fcntl
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from json import JSONDecodeError, dumps, loads  # a cell of the notebook may replace json's own
from pathlib import Path

from pipelab.files import check_plain, free_name, replace_text, replacing

Row = dict[str, object]
Progress = dict[str, dict[str, Row]]

NAME = "progress.json"
_PARTS = ("checks", "hints", "predictions")
_KINDS = {"attempts": int, "asked": int, "passed": bool}
_MOST_BYTES = 10_000_000

Change = Callable[[Progress], None]
_unsaved: dict[str, list[Change]] = {}  # by file: what could not be written yet


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
    data = _parsed(file.read_bytes())
    if not isinstance(data, dict):
        raise ValueError("it is no JSON object, which begins with a brace")
    parts = {part: data.get(part, {}) for part in _PARTS}
    for part, rows in parts.items():
        _check_rows(part, rows)
    found: Progress = data | parts
    return found


def _parsed(data: bytes) -> object:
    """The JSON of a file. Raises ValueError in words."""
    try:
        text = data.decode("utf-8-sig")  # some editors begin a file with a mark
        if not text.strip():
            raise ValueError("it is empty")
        parsed: object = loads(text)
        return parsed
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8 text from byte {error.start} on") from None
    except JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"it is no JSON from {where} on") from None
    except RecursionError:
        raise ValueError("its lists are nested too deeply") from None


def _check_rows(part: str, rows: object) -> None:
    """Raise ValueError unless this part is an object of rows with values of the right kinds."""
    if not isinstance(rows, dict):
        raise ValueError(f'"{part}" is no JSON object')
    for name, row in rows.items():
        if not isinstance(row, dict):
            raise ValueError(f'"{name}" in "{part}" is no JSON object')
        for key, kind in _KINDS.items():
            if key in row and type(row[key]) is not kind:
                want = "true or false" if kind is bool else "a whole number"
                raise ValueError(f'"{key}" of "{name}" in "{part}" is not {want}')


def load() -> Progress:
    """All that was saved; empty if nothing was, or if it cannot be read. Nothing is changed."""
    progress, why = _known()
    if why:
        _warn(f"{NAME} cannot be read ({why}): what it holds is not shown")
    return progress


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
        The copy; None if nothing was saved.

    Raises:
        OSError: the file cannot be read, or not written; nothing is forgotten.
        ValueError: the file is damaged; it stays as it is.
    """
    if not os.path.lexists(path()):
        return None
    with _locked() as file:
        progress = read(file)
        names = [(part, name) for part in _PARTS for name in progress[part]]
        if not (gone := [(part, name) for part, name in names if name.startswith(lesson)]):
            return None
        copy = free_name(file, "reset")
        with replacing(copy) as new:
            new.write(file.read_bytes())
        for part, name in gone:
            del progress[part][name]
        _write(file, progress)
        return copy


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _change(change: Change) -> None:
    """Read, change and write, one notebook at a time. A lesson continues if it cannot be saved.

    A damaged file is renamed first. One that cannot be read is left alone. What is not saved is
    remembered as long as this process runs, and saved with the next change for which that works.
    """
    waiting = _waiting()
    waiting.append(change)
    try:
        with _locked() as file:
            due = [*waiting]  # another thread may have saved it meanwhile
            progress = _repaired(file)
            for one in due:
                one(progress)
            _write(file, progress)
            del waiting[: len(due)]
    except OSError as error:
        _warn(
            f"progress is not kept ({reason(error)}): this kernel remembers it until it ends, "
            f"and writes it with the next answer if that works again"
        )
        _known()  # a hint that cannot be counted in the file is counted all the same


@contextmanager
def _locked() -> Iterator[Path]:
    """The file itself, behind all links, for this process and thread alone. Raises OSError."""
    file = Path(os.path.realpath(path()))
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield file


def _waiting() -> list[Change]:
    """The changes that could not be written to this user's file yet."""
    try:
        return _unsaved.setdefault(str(path()), [])
    except OSError:
        return _unsaved.setdefault("", [])


def _write(file: Path, progress: Progress) -> None:
    replace_text(file, dumps(progress, indent=1, sort_keys=True))


def _known() -> tuple[Progress, str]:
    """What the file holds and what waits to be written; why it cannot be read, or ""."""
    progress, why = _nothing(), ""
    try:
        progress = read(path())
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        why = reason(error)
    for change in _waiting():
        change(progress)
    return progress, why


def _nothing() -> Progress:
    return {part: {} for part in _PARTS}


def _repaired(file: Path) -> Progress:
    """What the file holds; a damaged one gets another name, and nothing is known."""
    try:
        return read(file)
    except FileNotFoundError:
        pass
    except ValueError as error:
        aside = free_name(file, "damaged")
        os.rename(file, aside)
        _warn(f"{file} was damaged ({error}): it is now {aside}, progress begins anew")
    return _nothing()


def reason(error: OSError | ValueError) -> str:
    """Why a file cannot be read or written, and which, without the system's number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


def _warn(text: str) -> None:
    with suppress(UserWarning):  # a notebook may have made errors of all warnings
        warnings.warn(text, stacklevel=4)

"""The events of one JSON file, plain or gzip, one after another: memory does not grow with it.

A file of Chrome's trace format is a list of events, or an object whose ``traceEvents`` is that
list. What else such an object holds (which rank wrote it, when its clock began) stands before or
after the list: the first and the last part of the file are kept for that. OpenTelemetry's files
have one JSON text a line.
"""

import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import ijson

from pipelab.errors import TraceError
from pipelab.files import GZIP

_PART = 1 << 20  # bytes read at once
_KEPT = 1 << 18  # bytes kept of either end of the file
_DEEPEST = 5000  # lists and objects within each other
_STEPS = [1 if byte in b"[{" else -1 for byte in range(256)]  # of brackets, how the depth changes
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_SPANS = b"resourceSpans"
_LISTS = (b"traceEvents", _SPANS)  # lists of events in an object
_ENDS = re.compile("premature EOF|[Ii]ncomplete")  # of the parser's words
_NO_NUMBER = re.compile(rb"(?<=[:\[, \n])-?(?:NaN|Infinity)(?=[,\]} \n])")  # Python's, no JSON

_OTHER_FORMS = {  # by how such a file begins
    b"PK\x03\x04": "it is a zip archive: unpack it",
    b"\x28\xb5\x2f\xfd": "it is packed by zstd: unpack it, or pack it by gzip",
    b"BZh": "it is packed by bzip2: unpack it, or pack it by gzip",
    b"\xfd7zXZ": "it is packed by xz: unpack it, or pack it by gzip",
    b"PAR1": "it is a Parquet table: StragglerAnalysis' to_timeline.py makes JSON of it",
    b"\xff\xfe": "it is text in UTF-16: save it as UTF-8",
    b"\xfe\xff": "it is text in UTF-16: save it as UTF-8",
    b"SQLite format 3": "it is a database: of Nsight Systems, which is not read",
}

Json = dict[str, object]
Progress = Callable[["Place"], None]


class Place(NamedTuple):
    """How far a file has been read: ``done`` of ``total`` bytes, as they are on the disk."""

    path: Path
    done: int
    total: int


class EventFile:
    """One file; iterate over its events first, ask for its other values then.

    Raises:
        TraceError: while it is read, if it is no JSON, or ends in the middle.
    """

    def __init__(self, path: Path, progress: Progress | None = None):
        self.path = path
        self.progress = progress
        self.head = self.tail = b""
        self.number = 0  # of events so far

    def __iter__(self) -> Iterator[Json]:
        try:
            if not self.path.is_file():
                raise TraceError(
                    f"{self.path}: {_what(self.path)}: name a file, or a folder of files"
                )
            with self.path.open("rb") as raw:
                yield from self._events(raw)
        except (EOFError, ijson.IncompleteJSONError) as error:
            where = f"after {self.number:,} events ({_short(error)})"
            if isinstance(error, EOFError) or _ENDS.search(str(error)):
                raise TraceError(
                    f"{self.path}: it ends in the middle, {where}: copy it again, or let the "
                    f"profiler finish"
                ) from None
            raise TraceError(f"{self.path}: cannot be read as JSON {where}") from None
        except (OSError, zlib.error, ValueError, ijson.JSONError) as error:
            raise TraceError(f"{self.path}: cannot be read as JSON ({_short(error)})") from None

    def _events(self, raw: BinaryIO) -> Iterator[Json]:
        packed = raw.read(2) == GZIP  # whatever its name says
        raw.seek(0)
        parts = _Parts(self, raw, cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw)
        place, several = parts.prefix()
        for event in ijson.items(
            parts, place, use_float=True, buf_size=_PART, multiple_values=several
        ):
            self.number += 1
            if isinstance(event, dict):
                yield event

    def value(self, name: str) -> object:
        """A value of the object around the list of events; None where it has none of this name."""
        for part in (self.head, self.tail):
            text = part.decode("utf-8", "replace")
            for match in re.finditer(rf'"{re.escape(name)}"\s*:\s*', text):
                try:
                    return cast(object, json.JSONDecoder().raw_decode(text, match.end())[0])
                except (ValueError, RecursionError):  # cut in the middle
                    continue
        return None


class _Parts:
    """The file as ijson reads it, both ends kept."""

    def __init__(self, file: EventFile, raw: BinaryIO, plain: BinaryIO):
        self.file, self.raw, self.plain = file, raw, plain
        self.total = file.path.stat().st_size
        self.ready = b""
        self.depth = 0

    def prefix(self) -> tuple[str, bool]:
        """Where the events are, in ijson's words; and whether the file is one JSON text a line."""
        self.ready = self._read(_PART)
        self.ready = self.ready.removeprefix(b"\xef\xbb\xbf")  # an editor may put a mark in front
        start = self.ready.lstrip()[:1]
        if start == b"[":
            return "item", False
        found = [name for name in _LISTS if b'"' + name + b'"' in self.ready]
        if start != b"{":
            raise ValueError(_other_form(self.ready))
        if not found and _is_event(self.ready.lstrip().partition(b"\n")[0]):
            return "", True
        name = (found or [_LISTS[0]])[0]
        return f"{name.decode()}.item", name == _SPANS

    def read(self, size: int) -> bytes:
        """The next part; ijson asks for 0 bytes first, to see what it gets."""
        if size == 0:
            return b""
        part, self.ready = self.ready or self._read(size), b""
        return part

    def _read(self, size: int) -> bytes:
        part = self.plain.read(size)
        while part[-1:].isalpha() and (more := self.plain.read(1)):
            part += more  # a word is not cut
        if b"NaN" in part or b"Infinity" in part:
            part = _NO_NUMBER.sub(b"null", part)
        self._check_depth(part)
        file = self.file
        if len(file.head) < _KEPT:
            file.head += part[: _KEPT - len(file.head)]
        file.tail = (file.tail + part)[-_KEPT:] if len(part) < _KEPT else part[-_KEPT:]
        if file.progress:
            done = os.lseek(self.raw.fileno(), 0, os.SEEK_CUR)  # of a gzip file: packed
            file.progress(Place(file.path, done, max(done, self.total)))  # it may still grow
        return part

    def _check_depth(self, part: bytes) -> None:
        """The parser's memory grows with the square of the depth. Brackets in texts count too."""
        brackets = part.translate(None, _NO_BRACKETS)
        depths = [*accumulate(map(_STEPS.__getitem__, brackets), initial=self.depth)]
        if max(depths) > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST:,} lists and objects within each other")
        self.depth = depths[-1]


def _is_event(line: bytes) -> bool:
    """Whether this is all of one event: then the file has one a line."""
    try:
        return "name" in json.loads(line)
    except (ValueError, RecursionError, TypeError):
        return False


def _other_form(start: bytes) -> str:
    """What a file is that begins so, and what to do with it."""
    if not start.strip():
        return "it is empty"
    known = (what for mark, what in _OTHER_FORMS.items() if start.startswith(mark))
    return next(known, "it begins with neither [ nor {")


def _what(path: Path) -> str:
    if str(path) == "-":
        return "stdin is not read, write it into a file"
    if path.is_symlink() and not path.exists():
        return "it is a link that leads nowhere"
    return "it is no plain file" if path.exists() else "there is no such file"


def _short(error: Exception) -> str:
    """The first line of what a parser says, without its drawing of the place."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip().splitlines() or ["damaged"])[0][:80]


def number(event: Json, name: str, least: float | None = None) -> float:
    """A number of an event. Raises TraceError if it is none, or below ``least``."""
    value = event.get(name)
    try:
        if not isinstance(value, bool) and isinstance(value, int | float | str):
            found = float(value)
            if abs(found) < float("inf") and (least is None or found >= least):
                return found
    except (ValueError, OverflowError):
        pass
    raise TraceError(
        f"the event {brief(event.get('name'))} has {name} {brief(value)}: a number was expected"
    )


def brief(value: object) -> str:
    """A value of a file, at most 60 characters of it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def whole(value: object, default: int = -1) -> int:
    """A whole number that is 0 or more; ``default`` for anything else.

    >>> whole(3), whole("3"), whole(3.0), whole(-1), whole(None)
    (3, 3, 3, -1, -1)
    """
    if isinstance(value, float) and value.is_integer():  # as tables write a column with gaps
        value = int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return cast(int, value) if is_whole and 0 <= cast(int, value) < 1 << 31 else default


def arguments(event: Json) -> Json:
    """The ``args`` of an event; empty where it has none."""
    args = event.get("args")
    return args if isinstance(args, dict) else {}


def first_whole(values: Json, names: Iterable[str], default: int = -1) -> int:
    """The first of these names that has a whole number.

    >>> first_whole({"iteration": "7", "mb_id": None}, ["step", "iteration"])
    7
    """
    numbers = (whole(values.get(name)) for name in names)
    return next((number for number in numbers if number >= 0), default)

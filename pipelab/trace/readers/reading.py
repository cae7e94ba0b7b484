"""From files to steps: which form they have, and one recording out of all of them."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from pipelab.action import COMPUTE
from pipelab.errors import TraceError
from pipelab.files import beginning
from pipelab.trace.event import LARGEST, Event, Setting
from pipelab.trace.readers.alignment import align
from pipelab.trace.readers.gathered import Gathered, check_one_run, counted
from pipelab.trace.readers.kineto import Kineto
from pipelab.trace.readers.megatron import Megatron
from pipelab.trace.readers.ndtimeline import Ndtimeline
from pipelab.trace.readers.perfetto import Perfetto
from pipelab.trace.readers.stream import EventFile, Json, Place

_OWN = b'"format": "pipelab-trace"'
_ENDINGS = (".json", ".json.gz", ".jsonl", ".gz")
_FORMS = (Ndtimeline, Kineto, Megatron, Perfetto)
_NAMES_SHOWN = 3
MOST_RANKS = 4096  # of one pipeline

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
Progress = Callable[[Place], None]


class Step(NamedTuple):
    """One step of one replica, as a ``Trace`` is made from it."""

    events: tuple[Event, ...]
    source: Literal["predicted", "recorded"]
    setting: Setting


class _Reader(Protocol):
    """What collects the events of one form."""

    form: str
    expected: str

    def __len__(self) -> int: ...

    def take(self, name: str, event: Json) -> None: ...

    def end_file(self, file: EventFile) -> None: ...

    def gathered(self) -> Gathered: ...


def read_files(paths: Paths, progress: Progress | None = None) -> tuple[list[Step], list[Path]]:
    """All steps, in order of step and replica; and the files that are traces of pipelab's own.

    Raises:
        TraceError: see ``Trace.read``.
    """
    files = _files(paths)
    own = [path for path in files if _is_own(path)]
    if own and len(own) < len(files):
        other = next(path for path in files if path not in own)
        raise TraceError(f"{own[0]} is a trace of pipelab's, {other} is not: open them one by one")
    if own:
        return [], own
    reader: _Reader | None = None
    for path in files:
        readers = [reader] if reader else [make() for make in _FORMS]
        reader = _read(path, readers, progress, files[0])
    assert reader is not None, "there is at least one file"
    return _steps(reader, files), []


def _files(paths: Paths) -> list[Path]:
    """All files, those of folders in order of their names."""
    given = [paths] if isinstance(paths, str | os.PathLike) else [*paths]
    found: list[Path] = []
    for path in map(Path, given):
        if not os.path.isdir(path):  # Path.is_dir raises an error where a folder is closed to us
            found.append(path)
            continue
        inside = sorted(p for p in path.rglob("*") if p.name.endswith(_ENDINGS) and p.is_file())
        if not inside:
            raise TraceError(f"{path}: the folder holds no file that ends in .json or .json.gz")
        found += inside
    if not found:
        raise TraceError("no file to read: name one, or a folder of files")
    unique: dict[str, Path] = {}
    for path in found:  # Path.resolve raises an error for links that go round
        unique.setdefault(os.path.realpath(path), path)
    return [*unique.values()]


def _is_own(path: Path) -> bool:
    if not os.path.isfile(path):
        return False  # said when it is read
    try:
        return _OWN in beginning(path, 200)
    except OSError:
        return False  # likewise


def _read(
    path: Path, readers: Sequence[_Reader], progress: Progress | None, first: Path
) -> _Reader:
    """Let all readers see the file's events; the one that knows most of them has read it."""
    before = [len(reader) for reader in readers]
    file = EventFile(path, progress)
    seen: Counter[str] = Counter()
    for event in file:
        name = event.get("name")
        if not isinstance(name, str):
            name = ""
        if len(seen) < 1000:
            seen[name] += 1
        for reader in readers:
            try:
                reader.take(name, event)
            except TraceError as error:
                raise TraceError(f"{path}: {error}") from None
    for reader in readers:
        reader.end_file(file)
    found = [len(reader) - count for reader, count in zip(readers, before, strict=True)]
    if not max(found):
        raise TraceError(_unknown(path, file.number, seen, readers, first))
    return readers[found.index(max(found))]


def _unknown(
    path: Path, number: int, seen: Counter[str], readers: Sequence[_Reader], first: Path
) -> str:
    names = ", ".join(name or "(no name)" for name, _ in seen.most_common(_NAMES_SHOWN))
    events = f"{number:,} event{'' if number == 1 else 's'}"
    holds = f"{events}, such as {names}" if number else "no list of events"
    if path != first:
        return (
            f"{first} is of {readers[0].form}, {path} is not (it holds {holds[:120]}): open the "
            f"files of one run together, and those of another apart"
        )
    expected = " or ".join(reader.expected for reader in readers)
    return (
        f"{path}: no recorded pipeline that can be read: it holds {holds[:120]}; "
        f"expected {expected}"
    )


def _steps(reader: _Reader, files: Sequence[Path]) -> list[Step]:
    gathered = reader.gathered()
    for row in gathered.steps.values():
        for e in row:
            if max(e.stage, e.microbatch or 0) > LARGEST or e.rank >= MOST_RANKS:
                raise TraceError(
                    f"{reader.form}: an action is of rank {e.rank}, stage {e.stage}, microbatch "
                    f"{e.microbatch}: the file is damaged, since these count from 0"
                )
    check_one_run(gathered, files)
    gathered = counted(gathered)
    if not any(e.kind in COMPUTE for row in gathered.steps.values() for e in row):
        raise TraceError(
            f"{reader.form}: no forward or backward is in the files, expected {reader.expected}"
        )
    clocks, num_ranks = align(gathered), gathered.num_ranks
    found = []
    for key, events in gathered.steps.items():
        aligned = clocks[key.replica]
        computed = [e for e in events if e.kind in COMPUTE]
        setting = Setting(
            ranks=num_ranks,
            microbatches=len({e.microbatch for e in computed}),
            device="",
            backend="",
            clock_error=aligned.error,
            origin=f"{gathered.form}, {gathered.clock}",
            step=key.step,
            replica=key.replica,
            notes=gathered.notes + ([aligned.note] if aligned.note else []),
        )
        source: Literal["predicted", "recorded"] = (
            "predicted" if gathered.clock == "predicted" else "recorded"
        )
        found.append(Step(_in_order(events), source, setting))
    return found


def _in_order(rows: Iterable[Event]) -> tuple[Event, ...]:
    """In order of rank and start, shifted so that the first one starts at 0."""
    events = sorted(rows, key=lambda e: (e.rank, e.start, e.end))
    zero = min((e.start for e in events), default=0.0)
    return tuple(e._replace(start=e.start - zero, end=e.end - zero) for e in events)

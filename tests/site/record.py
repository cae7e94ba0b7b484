"""Record the site's runs again; do it on a quiet machine.

    python -m tests.site.record                        all of them, some ten minutes
    python -m tests.site.record --disturbed            those that are missing or were disturbed
    python -m tests.site.record gpipe '*-unpaced'      some, by the names of their files
    python -m tests.site.record --list                 what there is, and how disturbed it was

A paced run is made again until none of its actions took longer than set and hardly any began late,
at most ROUNDS times; with --disturbed the best one is kept, also the one that was there. Unpaced
runs are taken as they come. A run that fails as its entry says leaves the error's text.
"""

import argparse
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from pipelab.cli.main import parse
from pipelab.cli.recordings import record as record_schedule
from pipelab.cli.run import job_of
from pipelab.errors import RankError
from pipelab.site import recorded_runs
from pipelab.site.gallery import PREAMBLE, RECORDED, Entry, run
from pipelab.trace import Trace, least_disturbed
from pipelab.words import time_text

RUNS, ROUNDS = 3, 6
_LOST = 0.01  # of the ranks' time: with less of it in delays, a run counts as undisturbed
FOLDER = Path(__file__).parent.parent.parent / "notebooks" / "site" / "recordings"


class Recording(NamedTuple):
    """A file to make, and how."""

    name: str
    path: Path
    make: Callable[[], Trace]


def recordings() -> Iterator[Recording]:
    """All files: the gallery's, then the playground's."""
    for entry in RECORDED:
        ending = "txt" if "memory_budget" in entry.code else "json.gz"
        yield Recording(entry.name, FOLDER / f"{entry.name}.{ending}", lambda e=entry: _played(e))
    for one in recorded_runs.runs():
        path = recorded_runs.file_of(one, FOLDER)
        yield Recording(one.name, path, lambda line=one.line: _by_line(line))


def _played(entry: Entry) -> Trace:
    return least_disturbed([run(entry, PREAMBLE) for _ in range(RUNS)])


def _by_line(line: str) -> Trace:
    """What ``pipelab run`` would record."""
    job = job_of(parse(line.split()[1:]))
    return record_schedule(job.schedule, job.cost, RUNS)


def record(recording: Recording, kept: Trace | None = None) -> str:
    """Write one recording, or keep the one that is there if it is better; what to say of it."""
    recording.path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(ROUNDS):
        try:
            made = recording.make()
        except RankError as error:
            recording.path.write_text(f"{error}\n", "utf-8")
            return "the error that its entry shows"
        kept = least_disturbed([kept, made]) if kept else made
        if not is_disturbed(kept):
            break
    assert kept is not None
    kept.save(recording.path)
    return said(kept)


def is_disturbed(trace: Trace) -> bool:
    """Whether other work of the machine changed a paced run."""
    lost = trace.setting.lost / (trace.duration * trace.num_ranks)
    return bool(trace.setting.paced) and (bool(trace.disturbance) or lost > _LOST)


def said(trace: Trace) -> str:
    """How disturbed it was, in words."""
    if not trace.setting.paced:
        return "unpaced"
    late = trace.disturbance.fact if trace.disturbance else "none took longer than set"
    lost = time_text(trace.setting.lost)
    return f"{'DISTURBED' if is_disturbed(trace) else 'fine'}: {late}, {lost} lost"


def there(path: Path) -> Trace | None:
    """The trace that was recorded before."""
    return Trace.load(path) if path.suffix == ".gz" and path.is_file() else None


def main() -> None:
    """Record what the command line names, or all."""
    parser = argparse.ArgumentParser("tests.site.record")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--disturbed", action="store_true")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    for recording in recordings():
        if arguments.names and not any(fnmatch(recording.name, n) for n in arguments.names):
            continue
        before = there(recording.path)
        words = said(before) if before else ""
        if not arguments.list:
            is_good = recording.path.is_file() and not (before and is_disturbed(before))
            if arguments.disturbed and is_good:
                continue
            words = record(recording, before if arguments.disturbed else None)
        size = f"{recording.path.stat().st_size:,} bytes" if recording.path.is_file() else "missing"
        print(f"{recording.name}: {size}, {words}", flush=True)


if __name__ == "__main__":
    main()

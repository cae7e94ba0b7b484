"""How the suite runs: two workers, what judges time alone, every test with the same random data.

``python -m pytest`` without paths runs everything with two workers; with a path, in one process.
The numbers in brackets are cited below.

[1] A file of tests stays together on one worker, for its fixtures' sake, and so do the browser's
    tests, which share one JupyterLab. Long files begin first, or a worker would wait for the last.
[2] A test marked ``timing`` asserts how long something took. Nothing runs beside it: all tests
    share one lock, and a test of time has it alone. They come last, in one row, so that the other
    worker waits only once.
[3] Linters, mypy and the wheel run beside the tests: see ``tests/beside.py``.
[5] Each lesson is executed once: see ``tests/teacher_cells.py``.
[4] Each test's random numbers are seeded from its name, so that a failure repeats itself.
"""

import atexit
import fcntl
import os
import random
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
WORKERS = 2
LONG = ("tests/browser/", "tests/lessons/", "notebooks/", "tests/test_demo", "tests/faults/")
LESSONS = ("tests/lessons/", "notebooks/")

pytest_plugins = ["beside", "teacher_cells"]  # [3] [5]

# The teacher's notebooks and the template are run by tests/lessons, which look at their checks.
collect_ignore_glob = ["notebooks/teacher/*", "notebooks/template/*"]

# Progress is kept in a folder that ends with the tests; each worker has one.
if "PIPELAB_HOME" not in os.environ or "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["PIPELAB_HOME"] = tempfile.mkdtemp(prefix="pipelab-tests-")
    atexit.register(shutil.rmtree, os.environ["PIPELAB_HOME"], ignore_errors=True)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two workers for the suite; none for tests that were named, whose output is read as it comes.

    (This answers ``-n auto``, which stands in pyproject.toml; ``-n 2`` and ``-n 0`` decide anew.)
    """
    return WORKERS if config.args_source is pytest.Config.ArgsSource.TESTPATHS else 0


# -------------------------------------------------------------------------- which test where [1]


@pytest.hookimpl(tryfirst=True)  # before ``-m`` selects, and before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test its marks, its group and its turn."""
    for item in items:
        path = item.path.relative_to(ROOT).as_posix()
        if path.startswith("tests/browser/"):
            item.add_marker("browser")
        if path.startswith(LESSONS):
            item.add_marker("lesson")
        item.add_marker(pytest.mark.xdist_group(_group(item, path)))
    items.sort(key=_turn)


def _group(item: pytest.Item, path: str) -> str:
    """The tests that one worker runs in a row."""
    if item.get_closest_marker("browser"):
        return "browser"
    return "timing" if item.get_closest_marker("timing") else path


def _turn(item: pytest.Item) -> tuple[bool, int]:
    """Sorts: tests of time last, long files first, else as they were found."""
    path = item.path.relative_to(ROOT).as_posix()
    places = [place for place, start in enumerate(LONG) if path.startswith(start)]
    is_timing = item.get_closest_marker("timing") is not None and "browser" not in item.keywords
    return is_timing, min(places, default=len(LONG))


# --------------------------------------------------------------------- what judges time alone [2]


FLOOR = pytest.StashKey["Floor"]()


class Floor:
    """A lock that tests share, or that one of them has alone, across workers.

    Two files, for a lock alone is unfair: the others could take turns at sharing it, and who wants
    it alone would never have it. Everybody passes the door first, and who waits for the floor
    keeps the door shut.
    """

    def __init__(self, folder: Path) -> None:
        self._floor = (folder / "floor.lock").open("w")
        self._door = (folder / "door.lock").open("w")
        self.is_alone = False

    def take(self, *, alone: bool) -> None:
        """Wait until nobody has it, or (shared) until nobody has it alone."""
        fcntl.flock(self._door, fcntl.LOCK_EX)
        fcntl.flock(self._floor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)
        self.is_alone = alone

    def leave(self) -> None:
        """Let others have it."""
        fcntl.flock(self._floor, fcntl.LOCK_UN)
        self.is_alone = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """A test of time runs alone, with its fixtures; those in a row keep the floor."""
    floor: Floor | None = item.config.stash.get(FLOOR, None)
    if floor is None:
        return (yield)
    alone = item.get_closest_marker("timing") is not None
    if not (alone and floor.is_alone):
        floor.take(alone=alone)
    try:
        return (yield)
    finally:
        if not (alone and nextitem and nextitem.get_closest_marker("timing")):
            floor.leave()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """The workers of one run have one floor; a run in one process needs none."""
    if hasattr(config, "workerinput"):
        config.stash[FLOOR] = Floor(Path(config.option.basetemp).parent)


# ------------------------------------------------------------------------------ random data [4]


def pytest_collectstart(collector: pytest.Collector) -> None:
    """What a module of tests draws when it is imported."""
    _seed(collector.nodeid)


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """The same random numbers for a test in every run, alone or among others."""
    _seed(request.node.nodeid.partition("@")[0])  # xdist adds the group


def _seed(name: str) -> None:
    seed = zlib.crc32(name.encode())
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)

"""How the suite runs: two workers, what judges time alone, every test with the same random data.

``python -m pytest`` without paths runs everything with two workers; with a path, in one process.
The numbers in brackets are cited below.

[1] A file of tests stays together on one worker, for its fixtures' sake, and so do the browser's
    tests, which share one JupyterLab. Long files begin first, or a worker would wait for the last.
[2] A test marked ``timing`` asserts how long something took. Nothing runs beside it, and such
    tests come last, in one row: see ``tests/quiet.py``.
[3] Linters, mypy and the wheel run beside the tests, and are judged when all else has run: see
    ``tests/beside.py``.
[4] Each lesson is executed once: see ``tests/teacher_cells.py``.
[5] Each test's random numbers are seeded from its name, so that a failure repeats itself.
[6] Whatever loads nbformat (nbval, JupyterLab, nbclient) loads jsonschema, and with it grammars for
    a format that no notebook has, which takes two seconds of each process: ``tests/light`` keeps
    them out. So nbval is loaded here, and not by pytest, which would do it before.
[7] To look for garbage among the millions of objects of some thousand tests and of torch took a
    third of the collection, and a second at each look after it. Nothing is looked for until all
    tests are collected, and what is there then is never looked at again.
"""

import atexit
import gc
import json
import os
import random
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from pathlib import Path

import pytest
from _pytest.doctest import DoctestModule
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parent
WORKERS = 2
LONG = ("tests/browser/", "tests/lessons/", "notebooks/", "tests/cli/test_demo", "tests/faults/")
LESSONS = ("tests/lessons/", "notebooks/")
GROUPS = "groups.json"

# Python keeps what it compiles, even where it was asked not to: otherwise each of some hundred
# processes would compile pipelab again, and each run all tests.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

LIGHT = str(ROOT / "tests" / "light")  # [6]
if LIGHT not in sys.path:
    sys.path.insert(0, LIGHT)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (LIGHT, before)))

# Torch's threads sleep while they wait for each other: with two workers on two cores one that spins
# keeps the other from its core, and operations on a few numbers took 20 ms.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

os.environ["PIPELAB_NOTICES"] = "0"  # or a slow minute changes what a lesson's cell puts out

# [6], then [2] [3] [4]
pytest_plugins = ["nbval.plugin", "tests.quiet", "tests.beside", "tests.teacher_cells"]

# The teacher's notebooks and the template are run by tests/lessons, which look at their checks.
collect_ignore_glob = ["notebooks/teacher/*", "notebooks/template/*", "tests/light/*"]

# Progress is kept in a folder that ends with the tests; each worker has one.
if "PIPELAB_HOME" not in os.environ or "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["PIPELAB_HOME"] = tempfile.mkdtemp(prefix="pipelab-tests-")
    atexit.register(shutil.rmtree, os.environ["PIPELAB_HOME"], ignore_errors=True)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two workers for the suite; none for tests that were named, whose output is read as it comes.

    (This answers ``-n auto``, which stands in pyproject.toml; ``-n 2`` or ``-n 0`` replaces it.)
    """
    return WORKERS if config.args_source is pytest.Config.ArgsSource.TESTPATHS else 0


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path) -> Iterator[list[pytest.Collector]]:
    """Doctests are the package's: to look for some in the tests' helpers would import them all."""
    found = yield
    in_tests = (ROOT / "tests") in file_path.parents
    return [each for each in found if not (in_tests and isinstance(each, DoctestModule))]


# -------------------------------------------------------------------------- which test where [1]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """Let nobody look for garbage meanwhile [7]."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # before ``-m`` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test its marks and its turn."""
    for item in items:
        path = item.path.relative_to(ROOT).as_posix()
        if path.startswith("tests/browser/"):
            item.add_marker("browser")
        if path.startswith(LESSONS):
            item.add_marker("lesson")
    items.sort(key=_turn)


def _group(item: pytest.Item) -> str:
    """The tests that one worker runs in a row."""
    if item.get_closest_marker("browser"):
        return "browser"
    if item.get_closest_marker("timing"):
        return "timing"
    return "beside" if _waits(item) else item.path.relative_to(ROOT).as_posix()


def _waits(item: pytest.Item) -> bool:
    """Whether a test waits for a program that runs beside [3]: the later, the shorter."""
    return item.get_closest_marker("beside") is not None


@pytest.hookimpl(tryfirst=True)  # before the controller hears that this worker has collected
def pytest_collection_finish(session: pytest.Session) -> None:
    """Give the controller, which collects nothing, the group of each test.

    xdist's own way (``--dist loadgroup``) writes the group into the test's id, which pytest 9.2 no
    longer lets it do.
    """
    if getattr(session.config, "workerinput", {}).get("workerid") == "gw0":
        groups = {item.nodeid: _group(item) for item in session.items}
        folder = Path(session.config.option.basetemp).parent
        (folder / GROUPS).write_text(json.dumps(groups), "utf-8")


class ByGroup(LoadScopeScheduling):
    """One group after another to the next free worker, in the order of ``_turn``."""

    @cached_property
    def _groups(self) -> dict[str, str]:
        folder = self.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        return json.loads((folder / GROUPS).read_text("utf-8"))

    def _split_scope(self, nodeid: str) -> str:
        return self._groups[nodeid]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByGroup:
    """The controller's."""
    return ByGroup(config, log)


def _turn(item: pytest.Item) -> tuple[bool, bool, int]:
    """Sorts: tests of time last, what waits for a program before them, long files first."""
    path = item.path.relative_to(ROOT).as_posix()
    places = [place for place, start in enumerate(LONG) if path.startswith(start)]
    is_timing = item.get_closest_marker("timing") is not None and "browser" not in item.keywords
    return is_timing, _waits(item), min(places, default=len(LONG))


# ------------------------------------------------------------------------------ random data [5]


def pytest_collectstart(collector: pytest.Collector) -> None:
    """What a module of tests draws when it is imported."""
    _seed(collector.nodeid)


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """The same random numbers for a test in every run, alone or among others."""
    _seed(request.node.nodeid)


def _seed(name: str) -> None:
    seed = zlib.crc32(name.encode())
    random.seed(seed)
    # imported again: another thread may be loading it, and this waits until it has
    if "numpy" in sys.modules:
        import_module("numpy").random.seed(seed)
    if "torch" in sys.modules:  # not GPUs': that would record a stack each time
        import_module("torch").default_generator.manual_seed(seed)

"""What cells did to Python is not there between cells, nor in cells that are graded."""

import builtins
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

from pipelab.lessons.original_python import OriginalPython

NEW = "a_module_of_a_test"


@pytest.fixture
def first(monkeypatch):
    """With what the test changes put back at its end, whatever happens."""
    monkeypatch.setitem(sys.modules, "json", __import__("json"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(os, "write", os.write)
    monkeypatch.setattr(subprocess.Popen, "__init__", subprocess.Popen.__init__)
    monkeypatch.setattr(subprocess, "Popen", subprocess.Popen)
    monkeypatch.setattr(builtins, "__import__", __import__)
    monkeypatch.delitem(sys.modules, NEW, raising=False)
    return OriginalPython()


def seen():
    """What cells may have changed, as it is now."""
    return [
        *(
            sys.stdout,
            sys.modules.get("json"),
            sys.modules.get("select"),
            sys.modules.get(NEW, "none"),
        ),
        *([*sys.path], [*sys.meta_path], os.write, subprocess.Popen, builtins.__import__),
        *(vars(builtins)["isinstance"], vars(builtins)["len"]),
    ]


def test_what_was_replaced_is_put_back_and_taken_away(first):
    before, popen, own = seen(), subprocess.Popen.__init__, builtins.__dict__.copy()
    select = sys.modules["select"]
    sys.modules["json"] = sys.modules[NEW] = None
    del sys.modules["select"]
    sys.path, sys.stdout, os.write = [], None, lambda *_: 0
    sys.meta_path.clear()
    subprocess.Popen.__init__ = subprocess.Popen = None
    builtins.__import__ = None
    builtins.__dict__.update(isinstance=lambda *_: True, len=None)
    try:
        changed = seen()
        assert first.put_back() and not first.put_back()
        back, found = seen(), vars(subprocess.Popen)["__init__"]
        first.undo()
        again = seen()
    finally:
        builtins.__dict__.update(own)
        sys.modules["select"] = select
        sys.modules.pop(NEW, None)
    assert back == before and found is popen
    assert again == changed != before


def test_what_is_new_stays(first):
    new = sys.modules[NEW] = ModuleType(NEW)
    new.function = len
    sys.path.append("/a/folder")
    builtins.__dict__["a_name"] = 1
    try:
        first.put_back()
        new.function = abs
        assert sys.modules[NEW] is new and sys.path[-1] == "/a/folder"
        assert builtins.__dict__["a_name"] == 1
        first.undo()
    finally:
        del builtins.__dict__["a_name"], sys.modules[NEW]
    assert new.function is abs


def test_only_the_learners_own_cells_run_with_what_they_changed(first):
    calls = {}
    events = SimpleNamespace(register=calls.__setitem__)
    first.keep_between_cells(events, lambda source: source == "grade")
    own, mine = os.write, lambda *_: 0

    def run(source):
        calls["pre_run_cell"](SimpleNamespace(raw_cell=source))
        found = os.write
        if source == "patch":
            os.write = mine
        calls["post_run_cell"](None)
        assert os.write is own
        return found

    sources = ("patch", "grade", "look", "grade", "look")
    assert [run(source) for source in sources] == [own, own, mine, own, mine]

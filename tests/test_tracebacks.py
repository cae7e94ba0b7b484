"""Whose line is this? The learner's, wherever their file is; nobody else's."""

import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy
import pytest
import torch

import pipelab
from pipelab.errors import ScheduleError
from pipelab.schedules import gpipe
from pipelab.tracebacks import Line, innermost_own_line, is_installed, own_lines

ROOT = Path(__file__).parents[1]
SOURCE = "def fail():\n    raise KeyError('mine')\nfail()\n"


def caught(call):
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    "folder",
    [
        "torch",
        "pipelab/engine",
        "pipelab",
        "lib/python3.11",
        "multiprocessing",
        ".venv",
        "cloudpickle",
    ],
)
def test_a_learner_s_file_is_theirs_in_a_folder_of_any_name(tmp_path, folder):
    path = tmp_path / folder / "mine.py"
    path.parent.mkdir(parents=True)
    path.write_text(SOURCE)
    error = caught(lambda: exec(compile(SOURCE, str(path), "exec"), {"__name__": "mine"}))
    line = innermost_own_line(error)
    assert line == Line(str(path), 2, "fail")
    assert (line.text, line.place) == ("raise KeyError('mine')", "mine.py, line 2")


@pytest.mark.parametrize(
    "name", ["<stdin>", "<string>", "<ipython-input-3-abc>", "no/such/cell.py"]
)
def test_a_cell_and_a_prompt_are_theirs(name):
    error = caught(lambda: exec(compile(SOURCE, name, "exec"), {"__name__": "__main__"}))
    assert innermost_own_line(error) == Line(name, 2, "fail")
    assert innermost_own_line(error).place == "line 2"


@pytest.mark.parametrize(
    "path", [json.__file__, torch.__file__, numpy.__file__, pytest.__file__, pipelab.__file__]
)
def test_the_library_and_packages_are_not(path):
    assert is_installed(path)


def test_the_neighbours_of_what_is_installed_are_theirs(tmp_path):
    package = Path(pipelab.__file__).parent
    assert not is_installed(str(package.with_name("pipelab_mine") / "mine.py"))
    assert not is_installed(str(ROOT / "tests" / "mine.py"))
    assert not is_installed(os.path.join(sys.prefix, "mine.py"))  # an environment in their folder
    link = tmp_path / "linked"
    link.symlink_to(Path(torch.__file__).parent)
    assert is_installed(str(link / "mine.py"))  # by another name, it is PyTorch all the same


def test_packages_of_another_python_are_not_theirs(tmp_path, monkeypatch):
    folder = tmp_path / "lib" / "site-packages"
    monkeypatch.syspath_prepend(str(folder))
    assert is_installed(str(folder / "package" / "code.py"))
    assert not is_installed(str(tmp_path / "lib" / "mine.py"))


@pytest.mark.parametrize(
    "folder",
    [
        "/usr/lib/python3/dist-packages",  # Debian's own, for each of its Pythons
        "/usr/local/lib/python3.13t/dist-packages",
        "/usr/lib64/python3.12/site-packages",
        "/opt/conda/lib/python3.14/site-packages",
    ],
)
def test_packages_of_a_python_that_is_not_on_the_path_are_not_theirs(folder):
    assert is_installed(f"{folder}/package/code.py")
    assert not is_installed(f"{folder}-mine/code.py")
    assert not is_installed("/mine/dist-packages/code.py")


def test_lines_between_those_of_libraries_are_found_outermost_first():
    def hook(pairs):
        return gpipe(0, 4)

    error = caught(lambda: json.loads("{}", object_pairs_hook=hook))
    assert isinstance(error, ScheduleError)
    lines = own_lines(error.__traceback__)
    assert [line.function for line in lines] == ["caught", "<lambda>", "hook"]
    assert lines[-1].text == "return gpipe(0, 4)"


def test_code_that_a_library_generates_is_its_own():
    @dataclasses.dataclass
    class Point:
        x: int

    error = caught(lambda: Point())
    assert innermost_own_line(error).text == "error = caught(lambda: Point())"


def test_an_error_without_own_lines_is_followed_to_the_one_that_led_to_it():
    def fail():
        raise KeyError("mine")

    first = caught(fail)
    wrapped = RuntimeError("theirs")
    wrapped.__cause__ = first
    assert innermost_own_line(wrapped).text == 'raise KeyError("mine")'
    hidden = RuntimeError("theirs")
    hidden.__context__ = first
    hidden.__suppress_context__ = True
    assert innermost_own_line(hidden) is None
    first.__cause__, first.__traceback__ = wrapped, None  # a circle ends
    assert innermost_own_line(wrapped) is None

"""The playground's folder: all that the page asks for is in it, and no other address."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipelab.errors import PipelabError
from pipelab.site.playground import _FETCHED, _MODULES, build_playground

RECORDINGS = Path(__file__).parents[2] / "notebooks" / "site" / "recordings"


@pytest.fixture
def runtime(tmp_path):
    """Files of the runtime's names."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    for name in (*_MODULES, *_FETCHED):
        (folder / name).write_text("1234", "utf-8")
    return folder


def test_the_folder_is_whole(tmp_path, runtime):
    out = tmp_path / "made" / "here"
    build_playground(out, runtime, precompiled=False)
    build_playground(out, runtime, precompiled=False)  # over an earlier one
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    names = {f"pyodide/{name}" for name in (*_MODULES, *_FETCHED)}
    assert files == {"index.html", "levels.html", "pipelab.zip", "runtime.js", *names}
    page = (out / "index.html").read_text("utf-8")
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert len(page) < 1_000_000
    size = (out / "pipelab.zip").stat().st_size + 4 * len(_FETCHED)
    assert f'"total": {size}' in page


def test_the_package_has_what_predicts_and_nothing_that_runs(tmp_path, runtime):
    build_playground(tmp_path / "out", runtime, precompiled=False)
    with zipfile.ZipFile(tmp_path / "out" / "pipelab.zip") as archive:
        names = archive.namelist()
    assert {"pipelab/widgets/playground_answers.py", "pipelab/simulator/simulate.py"} <= {*names}
    assert {"pipelab/widgets/level_answers.py", "pipelab/levels/recorded/the-v.json"} <= {*names}
    assert not [name for name in names if re.match(r"pipelab/(engine|models|lessons|cli)/", name)]


def test_the_package_answers_by_itself(tmp_path, runtime):
    build_playground(tmp_path / "out", runtime, precompiled=False)
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'out' / 'pipelab.zip')!r})\n"
        "from pipelab.widgets import level_answers, playground_answers\n"
        "print(len([*filter(None, playground_answers.replies('{}'))]))\n"  # but those of a search
        'print(len([*level_answers.replies(\'{"level": "the-v"}\')]))'
    )
    command = [sys.executable, "-I", "-S", "-c", script]  # nothing else is installed there
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.stdout, result.stderr) == ("3\n1\n", "")


def test_a_folder_without_the_runtime_is_refused(tmp_path, runtime):
    (runtime / "python_stdlib.zip").unlink()
    with pytest.raises(PipelabError, match=r"python_stdlib\.zip is missing"):
        build_playground(tmp_path / "out", runtime, precompiled=False)


@pytest.mark.parametrize(("program", "has_runtime"), [("npm", False), ("node", True)])
def test_what_is_missing_is_said_with_the_way_out(
    tmp_path, runtime, monkeypatch, program, has_runtime
):
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == program else which(name))
    with pytest.raises(PipelabError, match=f"{program} is missing.*--no-playground"):
        build_playground(tmp_path / "out", runtime if has_runtime else None)


def test_recordings_are_beside_the_page_and_it_knows_their_names(tmp_path, runtime):
    out = tmp_path / "out"
    build_playground(out, runtime, RECORDINGS, site="../", precompiled=False)
    names = {path.stem for path in (out / "runs").glob("*.json")}
    assert {"1f1b-4-8", "gpipe-4-32", "v_min-2-4-unpaced"} <= names
    page = (out / "index.html").read_text("utf-8")
    state = json.loads(re.findall(r'id="state">(.*?)</script>', page)[0])
    assert set(state["runs"]) == names and state["site"] == "../"

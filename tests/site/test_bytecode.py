"""Bytecode in place of sources: the same modules, with nothing to compile."""

import subprocess
import sys
import zipfile

from pipelab.site.bytecode import write_compiled

SOURCES = {"one/__init__.py": "X = 1\n", "one/two.py": "assert __doc__ is None\nY = 2\n"}


def archive(path, files):
    with zipfile.ZipFile(path, "w") as made:
        for name, text in files.items():
            made.writestr(name, text)
    return str(path)


def test_compiled_modules_are_imported_without_their_sources(tmp_path):
    old = archive(tmp_path / "old.zip", SOURCES | {"one/data.json": "{}"})
    new = str(tmp_path / "new.zip")
    assert write_compiled(old, new) == 2
    assert zipfile.ZipFile(new).namelist() == ["one/__init__.pyc", "one/two.pyc", "one/data.json"]
    script = f"import sys; sys.path.insert(0, {new!r}); import one.two as t; print(t.Y, t.__file__)"
    command = [sys.executable, "-I", "-S", "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.startswith("2 ") and "two.pyc" in result.stdout, result.stderr
    with zipfile.ZipFile(new) as found:
        found.extractall(tmp_path / "unpacked")  # as Pyodide does with ours
    script = script.replace(new, str(tmp_path / "unpacked"))
    result = subprocess.run(
        [*command[:-1], script], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout.startswith("2 ") and "two.pyc" in result.stdout, result.stderr


def test_what_is_not_wanted_stays_a_source(tmp_path):
    new = str(tmp_path / "new.zip")
    assert write_compiled(archive(tmp_path / "old.zip", SOURCES), new, {"one"}) == 1
    assert zipfile.ZipFile(new).namelist() == ["one/__init__.pyc", "one/two.py"]

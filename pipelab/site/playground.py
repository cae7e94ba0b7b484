"""The playground as a folder of files: one page, pipelab's own Python, and Pyodide to run it.

    index.html      the page, with what it shows before anything is asked
    runs/           recordings on real ranks, each fetched when its prediction is shown
    runtime.js      the worker in which Python runs
    a zip file      the parts of pipelab that need no torch
    pyodide/        CPython for browsers, as npm has it: loaded with the reader's first change

Any web server can serve it, also under a path: ``python -m http.server`` does. No file of it asks
for anything from elsewhere.
"""

import argparse
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pipelab
from pipelab.errors import PipelabError
from pipelab.plots.terminal import table_html
from pipelab.schedules import one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.site import bytecode
from pipelab.site.recorded_runs import write_runs
from pipelab.widgets import bundle
from pipelab.widgets.page import page
from pipelab.widgets.playground_answers import first_state

PYODIDE = "314.0.7"  # the release of npm's package that was tried
_MODULES = ("pyodide.mjs", "pyodide.asm.mjs")  # which the worker imports: not in the progress
_FETCHED = ("pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
_LIGHT = ("schedules", "simulator", "trace", "plots", "widgets")  # and the modules beside them
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:; worker-src 'self'; connect-src 'self'"
)
_HERE = Path(__file__).parent


def build_playground(
    folder: Path,
    pyodide: Path | None = None,
    recordings: Path | None = None,
    *,
    site: str = "",
    precompiled: bool = True,
) -> None:
    """Write the playground into a folder, which is made.

    Args:
        folder: where it goes; files of an earlier build are replaced.
        pyodide: a folder with Pyodide's runtime; None: fetched with npm.
        recordings: the site's folder of them, to show beside predictions; None: none are shown.
        site: the way from this page to the site's home; "": it is in no site.
        precompiled: its Python as bytecode, which starts twice as fast; node is needed for that.

    Raises:
        PipelabError: the runtime cannot be had, or lacks a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        _copy_runtime(pyodide or fetch_pyodide(Path(place)), folder / "pyodide")
    _write_package(folder / "pipelab.zip")
    if precompiled:
        _precompile(folder)
    shutil.copy(_HERE / "runtime.js", folder / "runtime.js")
    runs = write_runs(recordings, folder / "runs") if recordings else []
    (folder / "index.html").write_text(_page(folder, runs, site), "utf-8")


def fetch_pyodide(folder: Path) -> Path:
    """Npm's package ``pyodide``, unpacked below ``folder``. Raises PipelabError without npm."""
    npm = shutil.which("npm")
    if npm is None:
        raise PipelabError(
            "npm is missing, which fetches Pyodide for the playground: install Node.js, give "
            "--pyodide FOLDER, or leave the playground out of a site with --no-playground"
        )
    command = [npm, "pack", "--silent", f"pyodide@{PYODIDE}"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        last = result.stderr.strip().splitlines()[-1:]
        raise PipelabError(f"npm pack pyodide@{PYODIDE} failed: {' '.join(last)}")
    with tarfile.open(folder / result.stdout.split()[-1]) as archive:
        archive.extractall(folder, filter="data")
    return folder / "package"


def _copy_runtime(source: Path, folder: Path) -> None:
    if missing := [name for name in _MODULES + _FETCHED if not (source / name).is_file()]:
        raise PipelabError(f"{source} is no Pyodide runtime: {', '.join(missing)} is missing")
    folder.mkdir(exist_ok=True)
    for name in _MODULES + _FETCHED:
        shutil.copy(source / name, folder / name)


def _write_package(path: Path) -> None:
    """The modules that need no torch, in one file."""
    root = Path(pipelab.__file__).parent
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in _light_sources(root):
            archive.write(source, source.relative_to(root.parent))


def _precompile(folder: Path) -> None:
    """Make bytecode of the sources: by Pyodide itself, whose Python will read it, under node."""
    node = shutil.which("node")
    if node is None:
        raise PipelabError(
            "node is missing, which compiles the playground's Python: install Node.js, or leave "
            "the playground out of a site with --no-playground"
        )
    command = [node, str(_HERE / "precompile.mjs"), str(folder.resolve()), bytecode.__file__]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        last = result.stderr.strip()[-300:]
        raise PipelabError(f"Pyodide under node could not compile its modules: ... {last}")


def _light_sources(root: Path) -> Iterator[Path]:
    yield from sorted(root.glob("*.py"))
    for folder in _LIGHT:
        yield from sorted(root.joinpath(folder).rglob("*.py"))


def _page(folder: Path, runs: list[str], site: str) -> str:
    fetched = [*(folder / "pyodide" / name for name in _FETCHED), folder / "pipelab.zip"]
    total = sum(path.stat().st_size for path in fetched)
    return page(
        bundle.script("playground"),
        bundle.style("timeline", "editor", "playground"),
        {**first_state(), "total": total, "runs": runs, "site": site},
        title="Pipeline playground",
        still=table_html(simulate(one_f_one_b(4, 8), Cost(0.01, 0.01, 0.01))),
        policy=_POLICY,
    )


def main() -> None:
    """``python -m pipelab.site.playground OUT``."""
    parser = argparse.ArgumentParser(
        "pipelab.site.playground", description=build_playground.__doc__
    )
    parser.add_argument("folder", type=Path, metavar="OUT", help="where the page goes")
    parser.add_argument("--pyodide", type=Path, metavar="FOLDER", help="a runtime that is here")
    parser.add_argument("--recordings", type=Path, metavar="FOLDER", help="to show real runs")
    arguments = parser.parse_args()
    build_playground(arguments.folder, arguments.pyodide, arguments.recordings)


if __name__ == "__main__":
    main()

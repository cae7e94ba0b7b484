"""``pipelab site``: Sphinx on the gathered sources, then what plays, then a look at every link."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree, rmtree
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pipelab
from pipelab.errors import PipelabError
from pipelab.site.dead_links import problems
from pipelab.site.pages import PLAYGROUND, RECORDINGS, gather
from pipelab.site.playable import player
from pipelab.site.playground import build_playground
from pipelab.widgets import bundle

NEEDED = ("sphinx", "myst_nb", "furo", "latex2mathml")
_PATIENCE = 600  # seconds for Sphinx


class SiteError(PipelabError):
    """The site cannot be built, or is not whole."""


class Built(NamedTuple):
    """What was built."""

    pages: int
    timelines: int  # of lessons, that play


def build(
    notebooks: Path, out: Path, *, playground: bool = True, pyodide: Path | None = None
) -> Built:
    """Build the site of a folder of lessons.

    Args:
        notebooks: the lessons; their folder ``site`` has the home page and the settings.
        out: where to. Pages that are there already are replaced, other files stay, except the
            playground of an earlier build.
        playground: whether to add it; else no page links to one.
        pyodide: the playground's runtime, a folder; None: npm fetches it.

    Raises:
        LessonError: no lessons, or no sources of the site.
        PipelabError: the playground's runtime cannot be had.
        SiteError: Sphinx warns of something, a link is dead, or a page is too heavy.
    """
    with TemporaryDirectory(prefix="pipelab-site-") as made:
        source = Path(made) / "source"
        if playground:  # first of all: without npm it fails at once, and nothing is replaced
            recordings = notebooks / "site" / RECORDINGS
            build_playground(Path(made) / PLAYGROUND, pyodide, recordings, site="../")
        timelines = gather(notebooks, source, playground=playground)
        render(source, out, playground=playground)
        rmtree(out / PLAYGROUND, ignore_errors=True)
        if playground:
            copytree(Path(made) / PLAYGROUND, out / PLAYGROUND)
    if found := problems(out):
        raise SiteError("\n".join([f"{len(found)} problems in the pages of {out}:", *found[:20]]))
    return Built(len(list(out.rglob("*.html"))), timelines)


def render(source: Path, out: Path, *, playground: bool = False) -> None:
    """Make pages of gathered sources, with what plays their timelines.

    ``playground``: whether the list of pages links to one.

    Raises:
        SiteError: Sphinx warns of something.
    """
    static = source / "_static"
    static.mkdir(exist_ok=True)
    (static / "player.js").write_text(player(), "utf-8")
    (static / "timeline.css").write_text(bundle.style("timeline"), "utf-8")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    command += ["--builder", "html", "--doctree-dir", str(source.parent / "doctrees")]
    command += ["--html-define", "playground=1"] if playground else []
    above = Path(pipelab.__file__).parents[1]
    paths = os.pathsep.join(filter(None, [str(above), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [*command, str(source), str(out)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).replace(f"{source}{os.sep}", "").strip().splitlines()
        raise SiteError("\n".join(["Sphinx refuses the pages:", *lines[-40:]]))


def missing() -> list[str]:
    """Packages of the extra ``site`` that are not installed."""
    return [name for name in NEEDED if find_spec(name) is None]

"""``pipelab site``: Sphinx on the gathered sources, then what plays, then a look at every link."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pipelab
from pipelab.errors import PipelabError
from pipelab.site.dead_links import problems
from pipelab.site.pages import PLAYGROUND, gather
from pipelab.site.playable import player
from pipelab.widgets import bundle

NEEDED = ("sphinx", "myst_nb", "furo", "latex2mathml")
_PATIENCE = 600  # seconds for Sphinx


class SiteError(PipelabError):
    """The site cannot be built, or is not whole."""


class Built(NamedTuple):
    """What was built."""

    pages: int
    timelines: int  # of lessons, that play


def build(notebooks: Path, out: Path) -> Built:
    """Build the site of a folder of lessons.

    Args:
        notebooks: the lessons; their folder ``site`` has the home page and the settings.
        out: where to. Pages that are there already are replaced, other files stay.

    Raises:
        LessonError: no lessons, or no sources of the site.
        SiteError: Sphinx warns of something, a link is dead, or a page is too heavy.
    """
    with TemporaryDirectory(prefix="pipelab-site-") as made:
        source = Path(made) / "source"
        timelines = gather(notebooks, source)
        render(source, out)
    playground = notebooks / "site" / PLAYGROUND
    if playground.is_dir():
        copytree(playground, out / PLAYGROUND, dirs_exist_ok=True)
    if found := problems(out):
        raise SiteError("\n".join([f"{len(found)} problems in the pages of {out}:", *found[:20]]))
    return Built(len(list(out.rglob("*.html"))), timelines)


def render(source: Path, out: Path) -> None:
    """Make pages of gathered sources, with what plays their timelines.

    Raises:
        SiteError: Sphinx warns of something.
    """
    static = source / "_static"
    static.mkdir(exist_ok=True)
    (static / "player.js").write_text(player(), "utf-8")
    (static / "timeline.css").write_text(bundle.style("timeline"), "utf-8")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    command += ["--builder", "html", "--doctree-dir", str(source.parent / "doctrees")]
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

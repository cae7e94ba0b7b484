"""The sources of the site in one folder, as Sphinx reads them.

Lessons, guides and their pictures keep their places to each other, so that their links hold.
"""

import re
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

from pipelab.errors import LessonError
from pipelab.lessons.edition import NAMES, read, write
from pipelab.site.gallery import write_gallery
from pipelab.site.playable import play_outputs, playable
from pipelab.site.public_names import write_reference
from pipelab.trace import Trace

PLAYGROUND = "playground"  # its folder in the site
RECORDINGS = "recordings"  # their folder among the sources
FIRST = "1f1b.json.gz"  # the recording on the home page
_BUTTON = (
    f'<p><a class="pipelab-button" href="{PLAYGROUND}/index.html">Try it here: the playground</a> '
    "Change schedule, ranks and microbatches in the browser; nothing to install. Or play "
    f'<a href="{PLAYGROUND}/levels.html">twelve levels</a>: order the actions, beat the bubble.</p>'
)
_FROM_GALLERY = (
    f'<p>Make one: <a href="{PLAYGROUND}/index.html">the playground</a> predicts any schedule, '
    f'<a href="{PLAYGROUND}/levels.html">twelve levels</a> ask for a better one.</p>'
)
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")
_MATH = re.compile(r"(?<![\\$\w])\$(?!\s)([^$\n]+?)(?<!\s)\$(?![\w$])")
_FENCED = re.compile(r"^(```.*?^```|~~~.*?^~~~)|(`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_GUIDES = "# Guides\n\n```{toctree}\n:glob:\n\n*\n```\n"
_NOTE = (
    "\n\n:::{{note}}\nWhat you see was stored by a run of this notebook; timelines play here as "
    "they are. To predict, run and change things yourself: `pipelab lab {number}`.\n:::"
)


def gather(notebooks: Path, folder: Path, *, playground: bool = False) -> int:
    """Write all sources into a new folder; returns how many stored timelines will play.

    ``playground``: whether pages link to it; it is built apart.

    Raises:
        LessonError: ``notebooks`` has no lessons, or no sources of the site.
    """
    site = notebooks / "site"
    lessons = sorted(notebooks.glob(NAMES))
    if not lessons or not (site / "conf.py").is_file():
        raise LessonError(f"{notebooks} has no lessons, or no folder site: see a clone's notebooks")
    copytree(site, folder, ignore=lambda *_: {RECORDINGS, "__pycache__"})
    if (notebooks / "images").is_dir():
        copytree(notebooks / "images", folder / "images")
    for page in sorted([*notebooks.glob("*.md"), *(notebooks / "guides").glob("*.md")]):
        copy = folder / page.relative_to(notebooks)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(_markdown(page.read_text("utf-8"), page, notebooks), "utf-8")
    (folder / "guides" / "index.md").write_text(_GUIDES, "utf-8")
    write_reference(folder / "reference")
    write_gallery(folder / "gallery.md", site / RECORDINGS, _FROM_GALLERY if playground else "")
    _fill_home(folder / "index.md", site, playground)
    return sum(write_lesson(path, folder / path.name) for path in lessons)


def write_lesson(path: Path, copy: Path) -> int:
    """Write a lesson as a page with its stored outputs; returns how many timelines will play."""
    notebook = read(path)
    count = play_outputs(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _markdown(cell.source, path, path.parent)
    notebook.cells[0].source += _NOTE.format(number=int(path.name[:2]))
    write(notebook, copy)
    return count


def _markdown(text: str, page: Path, notebooks: Path) -> str:
    """A page's text with links and formulas as a site without a network has them."""

    def linked(match: re.Match[str]) -> str:
        words, address, place = match[1], match[2], match[3] or ""
        target = (page.parent / address).resolve()
        if target.is_dir() and target.is_relative_to(notebooks.resolve()):
            return f"[{words}]({address.rstrip('/')}/index.md)"
        if not target.is_relative_to(notebooks.resolve()):
            return words  # a file of the clone, which the site does not have
        return f"[{words}]({address}{place})"

    return _outside_code(_outside_code(text, _LINK, linked), _MATH, _formula)


def _formula(match: re.Match[str]) -> str:
    """TeX as MathML, which browsers draw without a script."""
    from latex2mathml.converter import convert

    return str(convert(match[1]))


def _outside_code(
    text: str, pattern: re.Pattern[str], change: Callable[[re.Match[str]], str]
) -> str:
    """The text with a change wherever the pattern is, except in code."""
    parts, place = [], 0
    for code in _FENCED.finditer(text):
        parts += [pattern.sub(change, text[place : code.start()]), code[0]]
        place = code.end()
    return "".join([*parts, pattern.sub(change, text[place:])])


def _fill_home(index: Path, site: Path, playground: bool) -> None:
    """The home page plays a run of the gallery, and links to the playground if there is one."""
    first = Trace.load(site / RECORDINGS / FIRST)
    text = index.read_text("utf-8").replace("<!-- first timeline -->", playable(first))
    index.write_text(text.replace("<!-- playground -->", _BUTTON if playground else ""), "utf-8")

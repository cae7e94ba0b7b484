"""The way through the course, made from its notebooks: links, the table of contents, the glossary.

Nothing of it is typed by hand. A lesson says its title and its new words; which lesson is before
and after it, and on which page a word is explained, follows from the files that there are.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

GLOSSARY = "glossary.md"
_MADE = ("way-top", "progress", "way-end")  # the ids of the cells that are made here
_TITLE = re.compile(r"# (?:Lesson \d+ · )?([^:\n]+)")
_WORD = re.compile(r"^\| \*\*(.+?)\*\* \| (.+) \|$", re.MULTILINE)
_WORDS = re.compile(r"^\| (?:new )?word \| meaning \|\n.*\n((?:\|.*\n?)+)", re.MULTILINE)
_ROW = re.compile(r"^\| (\d+) \| (?:\[([^\]]+)\]\([^)]+\)|([^|]+)) \|", re.MULTILINE)


class Lesson(NamedTuple):
    """What the others must know of a lesson.

    Attributes:
        file: its name, such as ``04_microbatches_and_overlap.ipynb``.
        title: without its number.
        words: that it explains, with their meaning.
    """

    file: str
    title: str
    words: tuple[tuple[str, str], ...]

    @property
    def number(self) -> str:
        """Two digits."""
        return self.file[:2]

    def link(self, text: str) -> str:
        """A link to it, as Markdown."""
        return f"[{text}]({self.file})"


def lesson_of(path: Path, notebook: NotebookNode) -> Lesson:
    """What a notebook says about itself, learner's or teacher's."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    title = _TITLE.match(texts[0]) if texts else None
    tables = _WORDS.findall("\n\n".join(texts))
    words = tuple(_WORD.findall("\n".join(tables)))
    return Lesson(path.name, title[1].strip() if title else path.stem[3:], words)


def linked(notebook: NotebookNode, number: str, lessons: Sequence[Lesson]) -> NotebookNode:
    """The same notebook with links to the lessons around it, and its progress at the end.

    Cells that were made here before are made again.

    Args:
        notebook: is changed.
        number: of its lesson, two digits.
        lessons: of the whole course, in order.
    """
    unlinked(notebook)
    way = _way(number, lessons)
    progress = f'from pipelab.lessons import progress\n\nprogress("{number}")'
    notebook.cells.insert(1, _named("way-top", new_markdown_cell(way)))  # type: ignore[no-untyped-call]
    notebook.cells += [
        _named("progress", new_code_cell(progress)),  # type: ignore[no-untyped-call]
        _named("way-end", new_markdown_cell(way)),  # type: ignore[no-untyped-call]
    ]
    for cell in notebook.cells:
        if cell.id == "course":
            cell.source = _with_links(cell.source, lessons)
    return notebook


def unlinked(notebook: NotebookNode) -> NotebookNode:
    """The same notebook without the cells that were made here."""
    notebook.cells = [cell for cell in notebook.cells if cell.id not in _MADE]
    return notebook


def glossary(lessons: Sequence[Lesson]) -> str:
    """All words of the course as Markdown, each with links to the lessons that explain it."""
    places: dict[str, list[tuple[str, Lesson]]] = {}
    for lesson in lessons:
        for word, meaning in lesson.words:
            places.setdefault(word, []).append((meaning, lesson))
    rows = [
        f"| **{word}** | {'; '.join(dict.fromkeys(meaning for meaning, _ in found))} | "
        f"{', '.join(lesson.link(str(int(lesson.number))) for _, lesson in found)} |"
        for word, found in sorted(places.items(), key=lambda item: item[0].lower())
    ]
    heads = ["| word | meaning | lesson |", "|---|---|---|"]
    return "\n".join(["# The words of the course", "", *heads, *rows, ""])


def _way(number: str, lessons: Sequence[Lesson]) -> str:
    """One line of links: the lesson before, the contents, the glossary, the lesson after."""
    before = [lesson for lesson in lessons if lesson.number < number][-1:]
    after = [lesson for lesson in lessons if lesson.number > number][:1]
    first = lessons[0]
    parts = [lesson.link(f"← {int(lesson.number)} · {lesson.title}") for lesson in before]
    parts += [first.link("Contents")] if first.number == "00" != number else []
    parts.append(f"[Glossary]({GLOSSARY})")
    parts += [lesson.link(f"{int(lesson.number)} · {lesson.title} →") for lesson in after]
    return " | ".join(parts)


def _with_links(table: str, lessons: Sequence[Lesson]) -> str:
    """A table of contents in which the title of each lesson that is there is a link."""
    files = {int(lesson.number): lesson for lesson in lessons}

    def row(found: re.Match[str]) -> str:
        title = (found[2] or found[3]).strip()
        lesson = files.get(int(found[1]))
        return f"| {found[1]} | {lesson.link(title) if lesson else title} |"

    return _ROW.sub(row, table)


def _named(name: str, cell: NotebookNode) -> NotebookNode:
    cell.id = name
    return cell

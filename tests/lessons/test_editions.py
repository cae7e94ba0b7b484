"""One source, two editions: they agree, and the learner's passes nothing.

That the teacher's passes everything is seen where the notebooks run: ``tests/teacher_cells.py``.
"""

import io
import json
import re
import shutil
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import nbformat
import pytest

from pipelab.cli import course
from pipelab.cli.main import main
from pipelab.errors import LessonError
from pipelab.files import replacing
from pipelab.lessons import edition
from pipelab.lessons.chapters import MODULES, chapter_of
from pipelab.lessons.contents import GLOSSARY, linked
from pipelab.lessons.edition import course_of, generate, learner, nbgrader, read, strip

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"
TEACHER = sorted((NOTEBOOKS / "teacher").glob("[0-9]*.ipynb"))
PAIRS = pytest.mark.parametrize("source", TEACHER, ids=lambda path: path.stem)

ANSWER = 'cuts = ...\n### BEGIN SOLUTION\ncuts = [1]\n### END SOLUTION\ncheck("01.1", cuts)'
CHECK = re.compile(r'^check\("([0-9.]+)"', re.MULTILINE)


def sources(notebook):
    return [(c.id, c.cell_type, c.source, c.metadata.get("tags", [])) for c in notebook.cells]


def test_every_chapter_has_a_notebook():
    assert [path.name[:2] for path in TEACHER] == list(MODULES)


@PAIRS
def test_shipped_notebook_is_what_the_source_gives(source):
    shipped = read(NOTEBOOKS / source.name)
    course = course_of(NOTEBOOKS / "teacher")
    assert sources(shipped) == sources(linked(learner(read(source)), source.name[:2], course))
    assert "SOLUTION" not in json.dumps(shipped)


@PAIRS
def test_untouched_learner_notebook_passes_no_check(source):
    """The stored verdicts; nbval compares them with those of a new run."""
    checks = [cell for cell in read(NOTEBOOKS / source.name).cells if CHECK.search(cell.source)]
    assert [CHECK.search(cell.source)[1] for cell in checks] == [
        *chapter_of(source.name[:2]).exercises
    ]
    for cell in checks:
        assert cell.metadata.tags == ["nbval-check-output"]
        assert ": not yet, 0 of" in cell.outputs[-1].data["text/plain"]


@PAIRS
def test_teacher_has_a_note_of_one_page(source):
    note = source.with_suffix(".md").read_text("utf-8")
    assert 15 <= len(note.splitlines()) <= 60
    for heading in ("## Misconceptions", "## The picture", "## Minutes", "## On one core"):
        assert heading in note


# ---------------------------------------------------------------------------- the generator


def test_solution_in_a_function_becomes_a_stub():
    cell = "def f(x):\n    # in words\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION"
    assert strip(cell) == ('def f(x):\n    # in words\n    raise NotImplementedError("your turn")')


def test_solution_elsewhere_leaves_the_line_before_it():
    assert strip(ANSWER) == 'cuts = ...\ncheck("01.1", cuts)'


def test_solution_without_an_end_is_refused():
    with pytest.raises(LessonError, match="does not end"):
        strip("### BEGIN SOLUTION\n1")


def test_teachers_cells_and_outputs_do_not_reach_learners():
    new = nbformat.v4
    output = new.new_output("stream", text="secret")
    cells = [
        new.new_markdown_cell("for you alone", metadata={"tags": ["teacher"]}),
        new.new_code_cell(ANSWER, outputs=[output], execution_count=3),
    ]
    (cell,) = learner(new.new_notebook(cells=cells)).cells
    assert (cell.outputs, cell.execution_count) == ([], None)


def test_nbgrader_gets_solutions_to_clear_and_locked_checks():
    new = nbformat.v4
    guess = 'guess = ...\n### BEGIN SOLUTION\nguess = 8\n### END SOLUTION\npredict("01", guess)'
    cells = [
        new.new_markdown_cell("for you alone", metadata={"tags": ["teacher"]}),
        new.new_code_cell(guess),
        new.new_code_cell(ANSWER.rpartition("\n")[0]),
        new.new_code_cell('check("01.1", cuts)'),
    ]
    guessed, prediction, solution, check = nbgrader(new.new_notebook(cells=cells)).cells
    assert guessed.source == "guess = ...", "guesses are not graded"
    assert prediction.source == 'predict("01", guess)'
    assert "nbgrader" not in guessed.metadata and "nbgrader" not in prediction.metadata
    assert prediction.metadata.tags == ["skip-execution"] and "tags" not in guessed.metadata
    assert solution.metadata.nbgrader.solution and not solution.metadata.nbgrader.locked
    assert check.metadata.nbgrader.grade and check.metadata.nbgrader.locked
    assert check.source.endswith('grade("01.1", cuts)')
    names = [cell.metadata.nbgrader.grade_id for cell in (solution, check)]
    assert all(re.fullmatch(r"[a-zA-Z0-9_\-]+", name) for name in names), "nbgrader's own rule"


LESSONS = ["00_start_here", *(path.stem for path in TEACHER)]


@pytest.mark.parametrize("name", ["learner", "teacher", "nbgrader"])
def test_command_writes_an_edition(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(NOTEBOOKS.parent)
    assert main(["edition", name, str(tmp_path)]) == 0
    written = sorted(tmp_path.rglob("*.ipynb"))
    if name == "nbgrader":
        assert written == [tmp_path / stem / f"{stem}.ipynb" for stem in LESSONS]
    else:
        assert written == [tmp_path / f"{stem}.ipynb" for stem in LESSONS]
    for path in written:
        nbformat.validate(read(path))
        has_solutions = name != "learner" and not path.stem.startswith("00")
        assert ("BEGIN SOLUTION" in path.read_text()) == has_solutions
    notes = {path.with_suffix(".md").name for path in TEACHER} if name == "teacher" else set()
    pages = set() if name == "nbgrader" else {GLOSSARY}
    assert {path.name for path in tmp_path.rglob("*.md")} == notes | pages


def test_a_notebook_that_differs_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(NOTEBOOKS.parent)
    command = ["edition", "learner", str(tmp_path)]
    assert main(command) == main(command) == 0, "what is the same may be written again"
    mine = tmp_path / "03_waiting.ipynb"
    fresh = mine.read_text("utf-8")
    mine.write_text("my own work", "utf-8")
    capsys.readouterr()

    assert main(command) == 1
    assert mine.read_text("utf-8") == "my own work"
    said = capsys.readouterr()
    assert str(mine) in said.err and "--force" in said.err and str(mine) not in said.out

    for number, old in enumerate(("03_waiting.old.ipynb", "03_waiting.old1.ipynb")):
        mine.write_text(f"my own work {number}", "utf-8")
        assert main([*command, "--force"]) == 0
        assert f"What was {mine} is now {tmp_path / old}\n" in capsys.readouterr().out
        assert (tmp_path / old).read_text("utf-8") == f"my own work {number}"
        assert mine.read_text("utf-8") == fresh
    assert len(list(tmp_path.glob("*.ipynb"))) == len(LESSONS) + 2


def test_notes_a_folder_and_a_link_in_the_place_of_a_file_are_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(NOTEBOOKS.parent)
    command = ["edition", "teacher", str(tmp_path)]
    (tmp_path / "01_the_relay_team.md").write_text("my own note", "utf-8")
    (tmp_path / GLOSSARY).write_text("my own words", "utf-8")
    (tmp_path / "02_split_the_model.ipynb").mkdir()
    (tmp_path / "03_waiting.ipynb").symlink_to("elsewhere")
    there = ("01_the_relay_team.md", GLOSSARY, "02_split_the_model.ipynb", "03_waiting.ipynb")
    assert main(command) == 1
    said = capsys.readouterr()
    assert all(str(tmp_path / name) in said.err for name in there)
    assert (tmp_path / "01_the_relay_team.md").read_text() == "my own note"
    assert (tmp_path / GLOSSARY).read_text() == "my own words"
    assert main([*command, "--force"]) == 0
    assert (tmp_path / "01_the_relay_team.old.md").read_text() == "my own note"
    assert (tmp_path / "02_split_the_model.old.ipynb").is_dir()
    assert (tmp_path / "03_waiting.old.ipynb").is_symlink()
    assert main(command) == 0


def test_what_differs_leaves_the_folder_of_an_assignment(tmp_path, monkeypatch):
    """nbgrader hands out all that is in it."""
    monkeypatch.chdir(NOTEBOOKS.parent)
    mine = tmp_path / "03_waiting" / "03_waiting.ipynb"
    mine.parent.mkdir()
    mine.write_text("a teacher's own", "utf-8")
    assert main(["edition", "nbgrader", str(tmp_path), "--force"]) == 0
    assert [path.name for path in mine.parent.iterdir()] == [mine.name]
    assert (tmp_path / "03_waiting.old.ipynb").read_text("utf-8") == "a teacher's own"


def test_a_full_disk_moves_and_loses_nothing(tmp_path, monkeypatch, capsys):
    class Full(io.BytesIO):
        def flush(self):
            raise OSError(28, "No space left on device")

    @contextmanager
    def replacing(path):
        yield Full()

    monkeypatch.chdir(NOTEBOOKS.parent)
    mine = tmp_path / "00_start_here.ipynb"
    mine.write_text("my own work", "utf-8")
    monkeypatch.setattr(edition, "replacing", replacing)
    assert main(["edition", "learner", str(tmp_path), "--force"]) == 1
    assert "No space left on device): make room" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [mine.name]
    assert mine.read_text("utf-8") == "my own work"


def test_a_copy_for_learners_has_no_solutions(tmp_path, monkeypatch):
    """As after an installation: the package alone, in a folder of the learner's."""
    package = tmp_path / "site" / "pipelab"
    shutil.copytree(
        NOTEBOOKS, package / "notebooks", ignore=shutil.ignore_patterns("teacher", "images")
    )
    shutil.copytree(NOTEBOOKS / "teacher", package / "teacher")
    monkeypatch.setattr(course.pipelab, "__file__", str(package / "__init__.py"))
    monkeypatch.setattr(course, "files", lambda _: package)
    (tmp_path / "learner").mkdir()
    monkeypatch.chdir(tmp_path / "learner")
    lesson = course.find(3)
    assert lesson == tmp_path / "learner" / "pipelab-notebooks" / "03_waiting.ipynb"
    texts = [path.read_text("utf-8") for path in lesson.parent.glob("[0-9]*.ipynb")]
    assert len(texts) == len(LESSONS) and not any("SOLUTION" in text for text in texts)
    assert not (lesson.parent / "teacher").exists()
    assert main(["edition", "teacher", "mine"]) == 0
    assert len(list((tmp_path / "learner" / "mine").glob("*.ipynb"))) == len(LESSONS)


def test_an_interrupted_copy_of_the_lessons_is_continued(tmp_path, monkeypatch):
    """Half a notebook would be taken for the learner's own at the next start, and stay so."""
    package = tmp_path / "site" / "pipelab"
    lessons = package / "notebooks"
    shutil.copytree(NOTEBOOKS / "guides", lessons / "guides")
    shutil.copy(NOTEBOOKS / "01_the_relay_team.ipynb", lessons)
    monkeypatch.setattr(course.pipelab, "__file__", str(package / "__init__.py"))
    monkeypatch.setattr(course, "files", lambda _: package)
    (tmp_path / "learner").mkdir()
    monkeypatch.chdir(tmp_path / "learner")
    there = sorted(path.relative_to(lessons) for path in lessons.rglob("*.*"))
    for place in range(len(there)):
        shutil.rmtree(course.COPY, ignore_errors=True)
        with monkeypatch.context() as patch:
            patch.setattr(course, "replacing", _interrupted_at(place))
            with pytest.raises(KeyboardInterrupt):
                course.home()
        assert course.home() == course.COPY
        assert sorted(path.relative_to(course.COPY) for path in course.COPY.rglob("*.*")) == there
        for path in there:
            assert (course.COPY / path).read_bytes() == (lessons / path).read_bytes()


def _interrupted_at(place):
    """``replacing``, interrupted in the middle of the file with this number."""
    numbers = count()

    @contextmanager
    def write(path):
        with replacing(path) as file:
            if next(numbers) == place:
                file.write(b"{")
                raise KeyboardInterrupt
            yield file

    return write


def test_jupyterlab_does_not_list_a_clones_solutions():
    options = course.options(NOTEBOOKS / "01_the_relay_team.ipynb", 8888, browser=False)
    for name in ("teacher", "template", "site"):
        assert f"--ContentsManager.hide_globs={name}" in options


def test_a_grader_runs_what_gives_names_and_skips_what_runs_ranks():
    """Every name that a cell gives without a run is there when an answer is graded."""
    for path in TEACHER:
        cells = [c for c in nbgrader(read(path)).cells if c.cell_type == "code"]
        run = [c for c in cells if "skip-execution" not in c.metadata.get("tags", [])]
        names: dict[str, object] = {}
        for cell in run:
            if "nbgrader" not in cell.metadata:
                exec(cell.source, names)
        assert len({cell.id for cell in cells}) == len(cells)
        everything = "\n".join(cell.source for cell in cells)
        for line in re.findall(r"^(?:import|from) .*", everything, re.MULTILINE):
            running = r"lessons\.(chapters|plan_report|plan_run|torch_run|trials)"
            if re.match(rf"from pipelab\.(engine|{running}|widgets)", line):
                continue
            kept = any(line in cell.source for cell in run)
            assert kept, f"{path.name} skips {line}"


def test_source_is_not_overwritten(tmp_path):
    with pytest.raises(LessonError, match="holds the source itself"):
        generate("learner", NOTEBOOKS / "teacher", NOTEBOOKS / "teacher")
    with pytest.raises(LessonError, match="holds no teacher's notebooks"):
        generate("learner", tmp_path, tmp_path / "new")

"""The way through the course: links that lead somewhere, the glossary, what is done and left."""

import re
from pathlib import Path

import pytest

from pipelab.cli.main import main
from pipelab.errors import LessonError
from pipelab.lessons import progress, progress_file, solution
from pipelab.lessons.chapters import MODULES, chapter_of, exercise_names, questions_of
from pipelab.lessons.contents import GLOSSARY, glossary, linked
from pipelab.lessons.edition import course_of, generate, read

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = ROOT / "notebooks"
COURSE = course_of(NOTEBOOKS / "teacher")
STORE = "python -m tests.lessons.store writes it again"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("[0-9]*.ipynb")), ids=lambda p: p.stem)
def test_each_lesson_leads_to_its_neighbours_and_back(path):
    """Followed from the first page, the links to the next lesson lead through the whole course."""
    texts = {cell.id: cell.source for cell in read(path).cells}
    files = [lesson.file for lesson in COURSE]
    place = files.index(path.name)
    around = files[max(0, place - 1) : place] + files[place + 1 : place + 2]
    for way in (texts["way-top"], texts["way-end"]):
        targets = re.findall(r"\]\(([^)]+)\)", way)
        assert [t for t in dict.fromkeys(targets) if t in around] == around, STORE
        assert GLOSSARY in targets and all((NOTEBOOKS / t).exists() for t in targets)
        assert path.name not in targets
    assert texts["progress"].endswith(f'progress("{path.name[:2]}")')


def test_the_first_page_is_the_table_of_contents():
    (table,) = [c.source for c in read(NOTEBOOKS / "00_start_here.ipynb").cells if c.id == "course"]
    for lesson in COURSE[1:]:
        assert f"| {int(lesson.number)} | [{lesson.title}]({lesson.file}) |" in table, STORE


def test_links_are_made_again_when_a_lesson_is_added_or_leaves():
    path = NOTEBOOKS / COURSE[3].file
    everything, fewer = linked(read(path), "03", COURSE), linked(read(path), "03", COURSE[:4])
    assert COURSE[4].file in everything.cells[1].source
    assert COURSE[4].file not in fewer.cells[1].source
    assert len(everything.cells) == len(fewer.cells) == len(read(path).cells)


def test_a_slot_is_one_f_long_in_every_lesson():
    """Of *m* + *p* − 1, each is an F and a B: lessons 4 and 6 called that a slot, too."""
    chapters = (ROOT / "pipelab" / "lessons" / "chapters").glob("ch0[46]_*.py")
    texts = [path.read_text("utf-8") for path in chapters]
    texts += [c.source for path in NOTEBOOKS.glob("teacher/*.ipynb") for c in read(path).cells]
    for text in texts:
        words = re.sub(r"[*`\"\s]+", " ", text)
        assert not re.search(r"(?:[−-] 1|\bm|m \+ 3|p) slots", words), words
    assert "slot" not in "".join(c.source for c in read(NOTEBOOKS / COURSE[6].file).cells)


def test_a_share_is_printed_in_one_form():
    """60 %: cells printed "60%" below a text that says 60 %."""
    paths = [*(ROOT / "pipelab").rglob("*.py"), *NOTEBOOKS.rglob("*.md"), ROOT / "README.md"]
    texts = {path: path.read_text("utf-8") for path in paths}
    for path in (*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.glob("teacher/*.ipynb")):
        texts[path] = "\n".join(cell.source for cell in read(path).cells)
    for path, text in texts.items():
        found = re.search(r":[\d.]*%\}|\bbubble \d+%", text)
        assert not found, f"{path.name}: {found}"


def test_the_glossary_has_every_word_with_its_lessons():
    text = (NOTEBOOKS / GLOSSARY).read_text("utf-8")
    assert text == glossary(COURSE), STORE
    for lesson in COURSE:
        assert lesson.words, lesson.file
        for word, meaning in lesson.words:
            (row,) = [line for line in text.splitlines() if line.startswith(f"| **{word}** |")]
            assert meaning in row and f"]({lesson.file})" in row


def test_an_edition_is_linked_and_an_assignment_is_not(tmp_path):
    generate("learner", NOTEBOOKS / "teacher", tmp_path / "learner")
    for path in (tmp_path / "learner").glob("*.ipynb"):
        (way,) = [cell.source for cell in read(path).cells if cell.id == "way-end"]
        for target in re.findall(r"\]\(([^)]+)\)", way):
            assert (path.parent / target).exists()
    generate("nbgrader", NOTEBOOKS / "teacher", tmp_path / "class")
    for path in (tmp_path / "class").rglob("*.ipynb"):
        assert not {"way-top", "way-end", "progress"} & {cell.id for cell in read(path).cells}


# ----------------------------------------------------------------------- what is done and left


@pytest.mark.parametrize("number", MODULES)
def test_each_lesson_has_the_exercises_that_are_counted(number):
    assert [*chapter_of(number).exercises] == exercise_names(number)


def test_progress_says_what_is_done_and_what_is_left(home, capsys):
    before = str(progress("04"))
    assert "04.1 is not passed yet" in before and "04.2 is not passed yet" in before
    assert f"0 of {len(exercise_names())}" in before and "the next is 01.1" in before
    progress_file.add_attempt("04.1", True, [])
    progress_file.add_attempt("04.2", False, ["m = 1"])
    after = str(progress("04"))
    assert "04.1 is passed" in after and "04.2 is not passed yet" in after
    assert f"1 of {len(exercise_names())}" in after and 'solution("04.1")' in after
    assert main(["progress"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Left")]
    assert "04.2" in line and "01.1" in line and "04.1" not in line
    for name in exercise_names():
        progress_file.add_attempt(name, True, [])
    assert "next" not in str(progress("00"))
    with pytest.raises(LessonError, match="belongs to no lesson"):
        progress("99")


@pytest.mark.parametrize("name", exercise_names())
def test_the_course_s_answer_is_shown_after_passing_and_not_before(name, home):
    with pytest.raises(LessonError, match="not passed yet"):
        solution(name)
    progress_file.add_attempt(name, False, ["m = 1"])
    with pytest.raises(LessonError, match="not passed yet"):
        solution(name)
    progress_file.add_attempt(name, True, [])
    code = solution(name).code
    compile(code, name, "exec")
    assert "def " in code and "SOLUTION" not in code and "NotImplementedError" not in code


def test_no_such_exercise_has_no_answer(home):
    with pytest.raises(LessonError, match="there is no exercise"):
        solution("04.3")


def test_reset_forgets_one_lesson_or_all_and_keeps_a_copy(home, capsys):
    assert main(["progress", "--reset"]) == 0 and "Nothing was saved" in capsys.readouterr().out
    for name in ("03.1", "04.1"):
        progress_file.add_attempt(name, True, [])
    progress_file.save_prediction("04.more", "c")
    full = (home / "progress.json").read_text("utf-8")
    assert main(["progress", "--reset", "4"]) == 0
    left = progress_file.load()
    assert [*left["checks"]] == ["03.1"] and not left["predictions"]
    assert (home / "progress.reset.json").read_text("utf-8") == full
    assert main(["progress", "--reset"]) == 0
    assert not progress_file.load()["checks"] and (home / "progress.reset1.json").exists()
    assert main(["progress", "--reset", "four"]) == 1
    assert "--reset four" in capsys.readouterr().err


def test_the_first_steps_ask_and_have_no_exercise():
    assert [*questions_of("00")] == ["00"]
    with pytest.raises(LessonError):
        chapter_of("00")

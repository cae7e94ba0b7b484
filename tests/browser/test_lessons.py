"""Two lessons in a real JupyterLab, from first cell to passed check, by a learner's hand."""

import re
import uuid
from pathlib import Path

import pytest
from playwright.sync_api import expect

from pipelab.lessons.edition import learner, read, write

TEACHER = Path(__file__).parents[2] / "notebooks" / "teacher"

ORDER = """def order_of(cooks, dishes):
    rows = [[f"{c}F{d}" for d in range(dishes)] for c in range(cooks)]
    return [[""] * c + row + [""] * (cooks - 1 - c) for c, row in enumerate(rows)]"""
GPIPE = """def my_gpipe(rank, p, m):
    return [f"{rank}{kind}{i}" for kind in "FB" for i in range(m)]"""

SAVED = "Your prediction is saved: "


class Lesson:
    """A learner's fresh notebook, whose cells are run one after another."""

    def __init__(self, lab, name):
        (source,) = TEACHER.glob(f"{name}_*.ipynb")
        self.lab, self.file = lab, f"{uuid.uuid4().hex[:8]}.ipynb"
        self.cells = learner(read(source)).cells
        write(learner(read(source)), lab.server.notebooks / self.file)
        self.done = -1  # the number of the cell run last
        lab.open(self.file)
        lab.connect()

    def find(self, text):
        """The number of the code cell that holds this text."""
        (found,) = [
            i for i, c in enumerate(self.cells) if c.cell_type == "code" and text in c.source
        ]
        return found

    def run_to(self, text):
        """Run all cells down to the one with this text; its outputs."""
        for index in range(self.done + 1, self.find(text) + 1):
            if self.cells[index].cell_type == "code":
                outputs = self.lab.run_cell(index)
        self.done = self.find(text)
        return outputs

    def answer(self, text, new):
        """Write ``new`` in place of a text of a cell, or of the whole cell, and run to there."""
        cell = self.cells[self.find(text)]
        cell.source = new if text.startswith("def ") else cell.source.replace(text, new)
        self.lab.type(self.find(new), cell.source)
        return self.run_to(new)

    def again(self, text, source):
        """Another text in a cell that was run before."""
        self.lab.type(self.find(text), source)
        return self.lab.run_cell(self.find(text))


@pytest.fixture
def lesson(lab):
    return lambda name: Lesson(lab, name)


def test_lesson_1_from_the_first_cell_to_a_passed_check(lab, lesson):
    cooks = lesson("01")
    expect(cooks.answer("guess = ...", "guess = 6")).to_contain_text(SAVED + "6. ")

    # The prediction is drawn over the run, and its misconception is answered in words.
    run = cooks.run_to("together = cook(order)")
    expect(run.locator(".pl-guess")).to_have_attribute("d", re.compile("^M"))
    expect(run.locator(".pl-guess-text")).to_have_text("your prediction: 6 min")
    words = cooks.run_to("reveal(")
    said = re.compile(r"Measured: 8(\.\d+)? minutes. You predicted 6 minutes")
    expect(words).to_contain_text(said)
    expect(words).to_contain_text("the last cook has nothing to do before the first dish")

    # Cooks, dishes and minutes, and no word of what comes later.
    cooks.run_to("kitchen_lab(")
    lab.expect_run(1)
    expect(lab.root.locator(".pl-figures")).to_contain_text("8 min")
    lab.root.get_by_role("slider", name="Dishes").fill("12")
    lab.expect_run(2)
    expect(lab.root.locator(".pl-figures")).to_contain_text("14 min")
    seen = lab.root.inner_text()
    assert "cook 2" in seen and not re.search(r"rank|microbatch|bubble|memory|\bms\b", seen), seen

    # The untouched exercise fails, a wrong answer is shown where to look, the right one passes.
    check = cooks.find('check("01.1"')
    expect(cooks.run_to('check("01.1"').first).to_contain_text("it is not written yet")
    cooks.again("def order_of", ORDER.replace('[""] * c + row', "row"))
    verdict = lab.run_cell(check)
    expect(verdict).to_contain_text("01.1 order the dishes: not yet, 1 of 6")
    expect(verdict).to_contain_text("1F0 in slot 0, but 0F0 is done after slot 0")
    cooks.again("def order_of", ORDER)
    verdict = lab.run_cell(check)
    expect(verdict).to_contain_text("01.1 order the dishes: passed, 9 of 9")
    recorded = re.compile("Recorded timeline: 3 cooks, 6 dishes, ")
    expect(verdict.locator("img")).to_have_attribute("alt", recorded)


@pytest.mark.slow  # as many seconds again; the suite has few left
def test_lesson_4_from_the_first_cell_to_a_passed_check(lab, lesson):
    waits = lesson("04")
    halves = "[0.75, 0.38, 0.19, 0.09, 0.05]"
    expect(waits.answer("[..., ..., ..., ..., ...]", halves)).to_contain_text(SAVED + "(0.75, 0.38")
    run = waits.run_to("Timeline(eight")
    expect(run.locator(".pl-guess-text")).to_have_text("your prediction: 9 % bubble")
    chart = waits.run_to("plot_bubble(").locator("img")
    expect(chart).to_have_attribute(
        "alt", re.compile(r"m = 16: \d+ %, formula 16 %, predicted 5 %")
    )
    expect(waits.run_to('reveal("04",')).to_contain_text("Half of it each time?")
    expect(waits.answer("answer = ...", 'answer = "c"')).to_contain_text(SAVED + "'c'")

    # The predictions are crosses in the lab's chart, and the run of eight says both numbers.
    waits.run_to("TimelineLab(")
    lab.expect_run(1)
    expect(lab.root.locator(".pl-cross")).to_have_count(5)
    expect(lab.root.locator(".pl-summary")).to_contain_text("; you predicted 9 %.")
    expect(lab.root.locator(".pl-guess-text")).to_have_text("your prediction: 9 % bubble")

    waits.answer("def my_gpipe", GPIPE)
    verdict = waits.run_to('check("04.1"')
    expect(verdict).to_contain_text("04.1 write GPipe: passed, 10 of 10")
    expect(verdict.locator("img")).to_have_count(2)

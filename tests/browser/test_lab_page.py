"""The lab's layout, in separate pages: what fits on one screen, how a disturbed run looks."""

import pytest
from playwright.sync_api import Page, expect

from pipelab.simulator import Cost
from pipelab.trace import Disturbance
from pipelab.widgets import TimelineLab
from pipelab.widgets.page import page as page_of
from tests.browser_steps import settled

QUICK = Cost(0.002, 0.002, 0.002)
NOTEBOOK = {"width": 880, "height": 680}  # a cell's output in JupyterLab at 1280 x 800
SCREEN = (".pl-controls", ".pl-figures", ".pl-chart", ".pl-picture")
LANES = ("messages", "memory", "prediction")


@pytest.fixture(scope="module")
def lab_page(tmp_path_factory):
    """Writes the page of a lab after a run; ``changed`` are other values of its traits."""

    def write(num_ranks: int, show=(), **changed):
        lab = TimelineLab(num_ranks, 8, "gpipe", pace=QUICK, over={(num_ranks, 8): 0.2}, show=show)
        lab.wait()
        names = [n for n in lab.keys if not n.startswith("_") and n not in ("layout", "tabbable")]
        state = {name: getattr(lab, name) for name in names if name != "tooltip"} | changed
        path = tmp_path_factory.mktemp("lab") / "lab.html"
        path.write_text(page_of(lab._esm, lab._css, state, "lab", ""), "utf-8")
        lab.close()
        return path, state

    return write


def box(page: Page, part: str) -> dict[str, float]:
    return page.locator(part).first.bounding_box()


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_cause_and_effect_are_on_one_screen(sheet, lab_page, num_ranks):
    page = sheet(lab_page(num_ranks)[0], viewport=NOTEBOOK)
    top = box(page, ".pl-root")["y"]
    for part in SCREEN:
        found = box(page, part)
        assert found["y"] + found["height"] <= top + 680, part
    assert page.evaluate("document.documentElement.scrollWidth") <= NOTEBOOK["width"]


def test_more_ranks_have_smaller_rows_and_a_wide_screen_is_used(sheet, lab_page):
    few, many = (box(sheet(lab_page(p)[0], viewport=NOTEBOOK), ".pl-picture") for p in (4, 8))
    assert many["height"] == pytest.approx(few["height"], abs=2)
    everything = sheet(lab_page(8, LANES)[0], viewport={"width": 1600, "height": 900})
    picture, chart = box(everything, ".pl-picture"), box(everything, ".pl-chart")
    assert picture["width"] > 1000 and picture["height"] < 400
    assert chart["x"] > picture["x"] + picture["width"], "beside it"


def test_a_disturbed_run_says_so_first(sheet, lab_page):
    disturbed = Disturbance(22, 48, 0.4).sentence
    _, state = lab_page(2)
    head = {**state["head"], "disturbed": disturbed}
    runs = [{**run, "disturbed": True} for run in state["session"]]
    page = sheet(lab_page(2, head=head, session=runs)[0], viewport=NOTEBOOK)
    said = page.locator(".pl-disturbed")
    expect(said).to_have_text(disturbed)
    for part in (".pl-figures", ".pl-chart", ".pl-timeline"):
        assert box(page, ".pl-disturbed")["y"] < box(page, part)["y"]
    expect(page.locator(".pl-mark.pl-hollow")).to_have_count(1)
    fill = page.locator(".pl-hollow circle").evaluate("(mark) => getComputedStyle(mark).fill")
    assert fill == "rgb(255, 255, 255)", (
        "the page's ground: a cross below it does not cross its letter"
    )
    expect(page.locator(".pl-key")).to_contain_text("hollow: the machine was busy")

    failed = sheet(lab_page(2, head=head, session=runs, state="error")[0], viewport=NOTEBOOK)
    expect(failed.locator(".pl-disturbed")).to_be_hidden()  # beside "Run 2 failed" it was its cause


def test_a_run_that_failed_is_not_said_to_be_disturbed_as_the_one_in_the_picture(sheet, lab_page):
    _, state = lab_page(2)
    head = {**state["head"], "disturbed": Disturbance(22, 48, 0.4).sentence}
    failed = {"state": "error", "error": "no memory", "title": "Run 2 failed."}
    page = sheet(lab_page(2, head=head, **failed)[0], viewport=NOTEBOOK)
    expect(page.locator(".pl-error")).to_have_text("no memory")
    expect(page.locator(".pl-disturbed")).to_be_hidden()


def test_nothing_moves_while_one_looks_at_it(sheet, lab_page):
    """The toolbar stays under the mouse, the page keeps its height."""
    page = sheet(lab_page(4)[0], viewport=NOTEBOOK)
    play = page.get_by_role("button", name="Play")

    def places():
        settled(page)
        return box(page, ".pl-root")["height"], box(page, ".pl-bar"), box(page, ".pl-play")

    before = places()
    page.get_by_role("button", name="Zoom in").click()
    expect(page.locator(".pl-map")).to_be_visible()
    assert places() == before
    play.click()
    assert places() == before
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="How to read this").click()
    expect(page.get_by_role("note")).to_contain_text("Each row is a rank")
    assert places() == before
    page.keyboard.press("Escape")
    expect(page.get_by_role("note")).to_be_hidden()
    expect(page.get_by_role("button", name="How to read this")).to_be_focused()

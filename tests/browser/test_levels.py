"""The levels as a learner plays them: on their page, and in JupyterLab, where solutions run.

On the page here, Python is that of the test: a worker asks the server, which answers as the worker
with Pyodide would. ``test_python_in_the_browser_answers_too`` has the real one.
"""

import json
import re
from collections.abc import Callable, Iterator
from importlib import import_module

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from pipelab.levels import LEVELS
from pipelab.site.playground import _FETCHED, _MODULES, build_playground
from tests.browser.static_host import Quiet, served
from tests.browser_steps import PATIENCE

WORKER = """
self.onmessage = async ({ data }) => {
  const body = JSON.stringify([self.name, data.request]);
  const answer = await fetch("answer", { method: "POST", body });
  self.postMessage({ number: data.number, reply: await answer.text() });
};
"""
CELL = "from pipelab.widgets import Levels\n\nlevels = Levels()\nlevels"


class _Answering(Quiet):
    def do_POST(self) -> None:
        module, question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        (reply,) = import_module(module).replies(question)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(reply.encode())


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page, with the test's Python behind it."""
    runtime, site = tmp_path_factory.mktemp("runtime"), tmp_path_factory.mktemp("levels")
    for name in _MODULES + _FETCHED:
        runtime.joinpath(name).write_text("not used here", "utf-8")
    build_playground(site, runtime, precompiled=False)
    site.joinpath("runtime.js").write_text(WORKER, "utf-8")
    with served(site, _Answering) as host:
        yield f"{host}/levels.html"


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens an address in a browser that remembers nothing; at its end: no complaint."""
    complaints: list[str] = []
    contexts: list[BrowserContext] = []

    def open_page(address: str, **options: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 1000}, **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE * 1000)
        context.on("console", lambda m: m.type == "error" and complaints.append(m.text))
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        page = context.new_page()
        page.goto(address)
        page.locator(".pl-levels").wait_for()
        return page

    expect.set_options(timeout=PATIENCE * 1000)
    yield open_page
    for context in contexts:
        context.close()
    assert not complaints, complaints


def token(page: Page, text: str) -> Locator:
    return page.locator(".pl-token", has_text=re.compile(f"^{text}$"))


def drag(page: Page, text: str, before: str) -> None:
    """Drag one token to just before another."""
    token(page, text).drag_to(token(page, before), target_position={"x": 3, "y": 9})


def earned(page: Page, number: int) -> Locator:
    return page.get_by_role("button", name=re.compile(f"^Level {number}, "))


def expect_solved(page: Page, number: int, words: str, stars: int = 3) -> None:
    expect(page.locator(".pl-solved")).to_contain_text(words)
    shown = "★" * stars + "☆" * (3 - stars)
    expect(page.locator(".pl-solved").get_by_role("img")).to_have_text(shown)
    expect(earned(page, number)).to_have_accessible_name(re.compile(f"{stars} of 3 stars"))


def test_levels_are_played_with_the_mouse(visit, address):
    page = visit(address)
    expect(page.get_by_role("heading", level=2)).to_have_text("1 · First steps")
    expect(page.locator(".pl-solved")).to_be_hidden()
    drag(page, "0F1", before="0B0")
    expect_solved(page, 1, "What you built is 1F1B")
    expect(page.locator(".pl-solved")).to_contain_text("Gradients checked: all 30 parameters")
    assert page.url == f"{address}#level=first-steps&t=FFBB-FBFB"

    page.get_by_role("button", name="Next level").click()
    expect(page.get_by_role("heading", level=2)).to_have_text("2 · Fill and drain")
    expect(page.locator(".pl-solved")).to_be_hidden()
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    for text, before in (("0F1", "0B0"), ("0F2", "0B0"), ("1F1", "1B0"), ("1F2", "1B1")):
        drag(page, text, before=before)
    expect_solved(page, 2, "What you built is 1F1B (Narayanan et al. 2021")

    earned(page, 12).click()
    expect(page.get_by_role("heading", level=2)).to_have_text("12 · A slow rank")
    drag(page, "1F0", before="0F1")
    expect_solved(page, 12, "an uneven layout of your own")
    expect(page.get_by_role("button", name="Next level")).to_be_hidden()
    expect(page.get_by_role("group", name="rank 0").locator(".pl-token")).to_have_count(12)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("group", name="rank 0").locator(".pl-token")).to_have_count(6)

    page.get_by_role("button", name="Show what real ranks did").wait_for(state="hidden")
    page.go_back()
    expect(page.get_by_role("heading", level=2)).to_have_text("2 · Fill and drain")
    expect_solved(page, 2, "What you built is 1F1B")
    page.get_by_role("button", name="Show what real ranks did").click()
    expect(page.locator(".pl-sentence")).to_contain_text("Recorded: what 3 ranks, real processes")


def test_a_level_is_played_with_the_keyboard_alone(visit, address):
    page = visit(f"{address}#level=messages-take-time")
    expect(page.get_by_role("heading", level=2)).to_have_text("7 · Messages take time")
    token(page, "0F0").focus()
    for name, steps in (("0F2", 3), ("0F3", 3), ("0F4", 3)):
        for _ in range(steps):
            page.keyboard.press("ArrowRight")
        expect(token(page, name)).to_be_focused()
        page.keyboard.press("Shift+ArrowLeft")
    expect_solved(page, 7, "What you built is eager 1F1B (Zhuang et al. 2022, arXiv 2211.05322)")
    page.get_by_role("button", name="Next level").press("Enter")
    expect(page.get_by_role("heading", level=2)).to_have_text("8 · Two stages each")
    expect(page.get_by_role("heading", level=2)).to_be_focused()


def test_a_level_is_played_with_a_finger(visit, address):
    options = {"has_touch": True, "is_mobile": True}
    page = visit(address, viewport={"width": 400, "height": 800}, **options)
    token(page, "0F1").tap()
    row = page.locator(".pl-row").first
    before = row.bounding_box()
    page.get_by_role("button", name="Move the chosen token left").tap()
    expect_solved(page, 1, "What you built is 1F1B")
    expect(page.get_by_role("button", name="Next level")).to_be_in_viewport()
    assert row.bounding_box() == before, "what comes up does not push the grid"


def test_a_block_is_stamped(visit, address):
    page = visit(f"{address}#level=stamp-a-block")
    expect(page.locator(".pl-timeline")).to_be_hidden()
    page.get_by_role("spinbutton", name="Period").press("Enter")  # as it is: 6
    expect(page.locator(".pl-timeline")).to_be_visible()
    expect(page.locator(".pl-status")).to_contain_text("above the goal")
    page.get_by_role("spinbutton", name="Period").fill("2")
    page.get_by_role("button", name="Stamp block").click()
    expect(page.locator(".pl-status")).to_contain_text("the period is 2")
    page.get_by_role("spinbutton", name="Period").fill("3")
    page.get_by_role("button", name="Stamp block").click()
    expect_solved(page, 6, "What you built is 1F1B")
    earned(page, 1).click()
    expect(page.get_by_role("button", name="Stamp block")).to_be_hidden()


def test_help_is_there_when_it_is_asked_for(visit, address):
    page = visit(f"{address}#level=one-forward-one-backward")
    hints = page.locator(".pl-hints li")
    for count in (1, 2, 3):
        expect(page.get_by_role("button", name=f"Hint {count} of 3")).to_be_visible()
        page.get_by_role("button", name="Hint").click()
        expect(hints).to_have_count(count)
    expect(page.get_by_role("button", name="No more hints")).to_be_disabled()

    advice, pointed = page.locator(".pl-advice"), page.locator(".pl-pointed")
    page.get_by_role("button", name="Why is this bubble there?").click()
    expect(advice).to_contain_text("Bubble 1 of 6: rank 0 is idle for 60 ms")
    expect(pointed.first).to_have_text("0B0")
    expect(page.locator(".pl-timeline")).to_have_attribute("data-pl-time", re.compile("^0.07"))
    page.get_by_role("button", name="Why is this bubble there?").click()
    expect(advice).to_contain_text("Bubble 2 of 6")

    for _ in range(8):
        before = page.locator("#view").get_attribute("data-pl-answers")
        page.get_by_role("button", name="Coach: one move").click()
        expect(page.locator("#view")).not_to_have_attribute("data-pl-answers", before)
        if page.locator(".pl-solved").is_visible() and "This is par" in advice.inner_text():
            break
        expect(advice).to_contain_text("Why: ")
        expect(pointed).to_have_count(1)
    expect_solved(page, 4, "1F1B", stars=2)
    expect(page.locator(".pl-status")).to_contain_text("do it alone for the third")
    earned(page, 1).click()
    earned(page, 4).click()
    expect_solved(page, 4, "1F1B", stars=2)
    page.get_by_role("button", name="Begin again").click()
    expect(page.locator(".pl-solved")).to_be_hidden()
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    expect(earned(page, 4)).to_have_accessible_name(re.compile("2 of 3 stars"))


def test_progress_stays_in_this_browser_and_a_link_has_the_order(visit, address):
    page = visit(address)
    drag(page, "0F1", before="0B0")
    expect_solved(page, 1, "1F1B")
    earned(page, 2).click()
    drag(page, "0F1", before="0B0")
    expect(page.locator(".pl-figure").first).to_contain_text("ms")
    expect(page).to_have_url(re.compile("#level=fill-and-drain&t="))
    link = page.url
    page.goto(address)
    page.reload()
    expect(earned(page, 1)).to_have_accessible_name(re.compile("3 of 3 stars"))
    earned(page, 2).click()
    row = page.get_by_role("group", name="rank 0").locator(".pl-token")
    expect(row).to_have_text(["0F0", "0F1", "0B0", "0B1", "0F2", "0B2"])

    other = visit(link)
    expect(earned(other, 1)).to_have_accessible_name(re.compile("0 of 3 stars"))
    row = other.get_by_role("group", name="rank 0").locator(".pl-token")
    expect(row).to_have_text(["0F0", "0F1", "0B0", "0B1", "0F2", "0B2"])
    wrong = visit(f"{address}#level=nothing&t=%21%25")
    expect(wrong.get_by_role("heading", level=2)).to_have_text("1 · First steps")


@pytest.mark.parametrize("width", [400, 1280, 2560])
def test_every_level_fits_the_window(visit, address, width):
    page = visit(address, viewport={"width": width, "height": 900})
    for number, level in enumerate(LEVELS, start=1):
        earned(page, number).click()
        expect(page.get_by_role("heading", level=2)).to_have_text(f"{number} · {level.title}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, level.name


def test_in_a_notebook_a_solution_runs_on_real_ranks_with_gradients_checked(lab, notebook):
    name = notebook(CELL, "levels.stars, levels.progress, levels.trace.source")
    lab.open(name)
    lab.start_cell(0)
    page = lab.page
    page.locator(".pl-levels").wait_for()
    page.locator(".pl-levels").scroll_into_view_if_needed()
    drag(page, "0F1", before="0B0")
    expect_solved(page, 1, "What you built is 1F1B")
    page.get_by_role("button", name="Run it").click()
    expect(page.locator(".pl-advice")).to_contain_text("It ran on 2 real ranks")
    expect(page.locator(".pl-advice")).to_contain_text("Gradients checked: all 32 parameters")
    expect(page.locator(".pl-sentence")).to_contain_text("Recorded")
    assert "(3, {'first-steps': 3}, 'recorded')" in lab.run_cell(1).last.inner_text()
    page.get_by_role("button", name="Next level").click()
    expect(page.get_by_role("heading", level=2, name="2 · Fill and drain")).to_be_visible()
    page.get_by_role("button", name="Coach: one move").click()
    expect(page.locator(".pl-advice")).to_contain_text("Why: ")


@pytest.mark.slow  # fetches 14 MB by npm, and starts Python in the browser
def test_python_in_the_browser_answers_too(visit, tmp_path):
    build_playground(tmp_path)
    with served(tmp_path) as host:
        page = visit(f"{host}/levels.html")
        drag(page, "0F1", before="0B0")
        expect_solved(page, 1, "Gradients checked: all 30 parameters")
        earned(page, 12).click()
        page.get_by_role("button", name="Coach: one move").click()
        expect_solved(page, 12, "an uneven layout of your own", stars=2)
        page.get_by_role("button", name="Show what real ranks did").click()
        expect(page.locator(".pl-sentence")).to_contain_text("Recorded: what 3 ranks")

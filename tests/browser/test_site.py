"""The site in Chromium: timelines play without a kernel, from a host's sub-path and from a disk.

The fast test builds two pages; ``-m slow`` builds the whole site and opens every page.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from pipelab.schedules import one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.site.build import SiteError, build, missing, render
from pipelab.site.dead_links import problems
from pipelab.site.pages import write_lesson
from pipelab.site.playable import playable
from pipelab.widgets.data import timeline_state
from pipelab.widgets.stored_state import MIME, stored
from tests.browser.static_host import served

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SITE = NOTEBOOKS / "site"
TRACE = simulate(one_f_one_b(2, 3), Cost(0.01, 0.01, 0.01))
NEEDS_SPHINX = pytest.mark.skipif(
    bool(missing()) and not os.environ.get("CI"), reason="the extra site is not installed"
)
pytestmark = NEEDS_SPHINX


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """A site of two pages, each with a timeline; one of them a lesson's."""
    folder = tmp_path_factory.mktemp("site")
    source = folder / "source"
    source.mkdir()
    shutil.copy(SITE / "conf.py", source)
    shutil.copytree(SITE / "_static", source / "_static")
    text = f"# Home\n\n{playable(TRACE)}\n\n```{{toctree}}\n99_one\n```\n"
    (source / "index.md").write_text(text, "utf-8")
    cells = [nbformat.v4.new_markdown_cell("# Lesson 99"), nbformat.v4.new_code_cell("Timeline()")]
    data = {**stored(timeline_state(TRACE)), "text/html": "<p>a still picture</p>"}
    cells[1].outputs = [nbformat.v4.new_output("execute_result", data)]
    metadata = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / "99_one.ipynb"
    )
    assert write_lesson(folder / "99_one.ipynb", source / "99_one.ipynb") == 1
    render(source, folder / "host" / "a" / "path")
    return folder / "host"


@pytest.fixture(scope="module")
def address(pages: Path) -> Iterator[str]:
    """A static host that has the pages under a path."""
    with served(pages) as home:
        yield f"{home}/a/path"


class Observed:
    """A page that records what it asks for and what it complains of."""

    def __init__(self, browser: Browser, **options: object):
        self.context: BrowserContext = browser.new_context(**options)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.context.on("console", lambda message: self.complaints.append(message.text))
        self.context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        self.page: Page = self.context.new_page()

    def check(self, home: str) -> None:
        assert self.complaints == []
        assert [a for a in self.asked if not a.startswith((home, "data:", "blob:"))] == []


@pytest.fixture
def observed(browser: Browser) -> Iterator:
    opened: list[Observed] = []

    def open_(**options: object) -> Observed:
        opened.append(Observed(browser, **options))
        return opened[-1]

    yield open_
    for each in opened:
        each.context.close()


def test_pages_have_no_dead_links(pages):
    assert problems(pages) == []


@pytest.mark.parametrize("place", ["host", "disk"])
@pytest.mark.parametrize("name", ["index", "99_one"])
def test_a_timeline_plays_by_keyboard(observed, pages, address, place, name):
    home = address if place == "host" else pages.as_uri()
    base = address if place == "host" else f"{pages.as_uri()}/a/path"
    seen = observed(viewport={"width": 1280, "height": 900})
    seen.page.goto(f"{base}/{name}.html")
    timeline = seen.page.locator(".pipelab-timeline[data-pl-ready]")
    expect(timeline.locator(".pl-sentence")).to_contain_text("bubble fraction")
    expect(timeline.locator(".pipelab-still")).to_be_hidden()
    scrub = timeline.locator(".pl-scrub")
    scrub.focus()
    end = scrub.input_value()
    seen.page.keyboard.press("Home")
    seen.page.keyboard.press("ArrowRight")
    assert scrub.input_value() not in (end, "")
    expect(timeline.locator(".pl-clock")).not_to_have_text("end")
    timeline.get_by_role("button", name="Play").click()
    expect(timeline.get_by_role("button", name="Pause")).to_be_visible()
    seen.check(home)


def test_a_finger_plays_a_timeline_and_follows_a_microbatch(observed, address):
    phone = {"has_touch": True, "is_mobile": True, "viewport": {"width": 400, "height": 860}}
    seen = observed(**phone)
    seen.page.goto(f"{address}/index.html")
    timeline = seen.page.locator(".pipelab-timeline[data-pl-ready]")
    timeline.get_by_role("button", name="Play").tap()
    timeline.get_by_role("button", name="Pause").tap()
    expect(timeline.get_by_role("button", name="Play")).to_be_visible()
    timeline.get_by_role("button", name="On by one action").tap()
    expect(timeline.locator(".pl-about")).to_be_empty()
    box = timeline.locator(".pl-picture").bounding_box()
    assert box is not None
    timeline.locator(".pl-picture").tap(position={"x": box["width"] / 2, "y": 20})
    expect(timeline.locator(".pl-about")).to_contain_text("rank 0")
    seen.check(address)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 2560])
def test_pages_fit_narrow_and_wide_in_both_themes(observed, address, theme, width):
    seen = observed(viewport={"width": width, "height": 900}, color_scheme=theme)
    seen.page.goto(f"{address}/99_one.html")
    root = seen.page.locator(".pl-root")
    expect(root).to_be_visible()
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    ground = root.evaluate("(node) => getComputedStyle(node).backgroundColor")
    behind = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == behind, "the timeline has the page's own background"
    shade = sum(int(part) for part in behind.strip("rgb()").split(",")[:3]) / 3
    assert (shade < 80) == (theme == "dark")
    seen.check(address)


def test_without_scripts_there_is_a_picture(observed, address):
    seen = observed(java_script_enabled=False)
    seen.page.goto(f"{address}/99_one.html")
    expect(seen.page.get_by_text("a still picture")).to_be_visible()


def test_sphinx_refuses_a_dead_link(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(SITE / "conf.py", source)
    (source / "index.md").write_text("# Home\n\n[Nowhere](nowhere.md)\n", "utf-8")
    with pytest.raises(SiteError, match=r"index\.md:3: .*nowhere\.md"):
        render(source, tmp_path / "out")


@pytest.mark.slow
def test_the_whole_site(observed, tmp_path):
    """Every page: nothing dead, nothing from elsewhere, no error, and all timelines play.

    Its playground is the real one, which npm fetches.
    """
    out = tmp_path / "a" / "path"
    built = build(NOTEBOOKS, out)
    stored_ones = sum(path.read_text("utf-8").count(f'"{MIME}"') for path in lessons())
    shown = sum(path.read_text("utf-8").count("jupyter.widget-view+json") for path in lessons())
    assert built.timelines == stored_ones == shown, "store the lessons again: tests.lessons.store"
    seen = observed(viewport={"width": 1280, "height": 900})
    for path in sorted(out.rglob("*.html")):
        seen.page.goto(path.as_uri())
        for timeline in seen.page.locator(".pipelab-timeline").all():
            timeline.scroll_into_view_if_needed()
            expect(timeline.locator(".pl-picture")).to_be_visible()
        seen.page.set_viewport_size({"width": 400, "height": 900})
        wide = seen.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 400, f"{path.name} is {wide} wide at 400"
        seen.page.set_viewport_size({"width": 1280, "height": 900})
    seen.check(out.as_uri())
    with served(tmp_path) as home:
        visitor = observed(viewport={"width": 1280, "height": 900})
        first_minute(visitor.page, f"{home}/a/path")
        visitor.check(f"{home}/a/path")


def first_minute(page: Page, home: str) -> None:
    """A stranger sees a pipeline run, changes m, and sees the bubble shrink."""
    page.goto(f"{home}/index.html")
    expect(page.locator(".pl-sentence").first).to_contain_text("Recorded: what 4 ranks")
    page.get_by_role("link", name="Try it here").click()
    recorded = page.locator(".pl-recorded")
    expect(recorded.locator(".pl-sentence")).to_contain_text("bubble fraction")
    page.get_by_label("Microbatches m").fill("32")
    status = page.locator(".pl-status")
    expect(status).to_contain_text("bubble 8.6 %", timeout=120_000)
    expect(recorded).to_have_attribute("data-pl-recorded", "1f1b-4-32")
    page.get_by_role("link", name="Gallery").click()
    expect(page.get_by_role("link", name="the playground")).to_be_visible()
    expect(page.get_by_role("link", name="twelve levels")).to_be_visible()


def lessons() -> list[Path]:
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))

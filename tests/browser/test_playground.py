"""The playground in Chromium, from a plain web server that has only its own folder."""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from pipelab.cli.main import parse
from pipelab.cli.run import job_of
from pipelab.schedules import one_f_one_b
from pipelab.site.playground import build_playground
from tests.browser.static_host import served

pytestmark = pytest.mark.slow  # fetches 14 MB by npm, and starts Python in the browser
PATIENCE = 60_000  # ms
RECORDINGS = Path(__file__).parents[2] / "notebooks" / "site" / "recordings"
STATUS = ".pl-status"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page below a path, as on a site."""
    root = tmp_path_factory.mktemp("site")
    build_playground(root / "some" / "path", recordings=RECORDINGS)
    with served(root) as host:
        yield f"{host}/some/path/"


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Opens the page; at its end: nothing on the console, nothing asked of another host."""
    complaints: list[str] = []
    contexts = []

    def open_page(**options: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 1000}, **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.on("console", lambda m: m.type == "error" and complaints.append(m.text))
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        own = (address.removesuffix("some/path/"), "data:", "blob:")
        context.on("request", lambda r: r.url.startswith(own) or complaints.append(r.url))
        page = context.new_page()
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints, complaints


@pytest.fixture
def page(opened: Callable[..., Page]) -> Page:
    return opened()


def expect_text(page: Page, text: str) -> None:
    expect(page.locator(STATUS)).to_contain_text(text, timeout=PATIENCE)


def expect_refused(page: Page) -> None:
    editor = page.locator(".pl-editor")
    expect(editor).to_have_attribute("data-pl-can-run", "false", timeout=PATIENCE)


def test_a_stranger_sees_the_bubble_shrink_and_sends_the_link(page, address):
    expect_text(page, "4 ranks, 8 microbatches, predicted 330 ms, bubble 27.3 %")
    assert page.get_by_role("button", name="Run it").count() == 0
    page.get_by_label("Microbatches m").fill("32")
    expect_text(page, "4 ranks, 32 microbatches, predicted 1.05 s, bubble 8.6 %")
    expect(page.locator(".pl-loading")).to_be_hidden()
    page.get_by_label("Memory limit").fill("2")
    expect_text(page, "Over the limit of 2: ranks 0, 1.")
    expect_text(page, "Par is")
    expect(page).to_have_url(f"{address}#m=32&k=2")

    page.locator(".pl-token").nth(4).focus()
    page.keyboard.press("Shift+ArrowRight")
    expect_text(page, "your own: 1F1B with two swapped: 0B0 and 0F4 on rank 0")
    expect(page.get_by_label("Schedule", exact=True)).to_have_value("")
    expect_text(page, "Par is")
    expect(page).to_have_url(re.compile("t="))
    shown, link = page.locator(STATUS).inner_text(), page.url
    assert len(link) < 500
    other = page.context.new_page()
    other.goto(link)
    expect(other.locator(STATUS)).to_have_text(shown, timeout=PATIENCE)
    page.get_by_role("button", name="Undo").click()
    expect_text(page, "Its order is 1F1B.")
    expect(page).to_have_url(f"{address}#m=32&k=2")
    page.go_back()
    expect(page.get_by_label("Memory limit")).to_have_value("0")


def test_what_is_wrong_is_said_and_marked(page):
    page.get_by_label("Schedule", exact=True).select_option("dual_pipe_v")
    page.get_by_label("Microbatches m").fill("3")
    expect_refused(page)
    page.get_by_label("Microbatches m").fill("8")
    expect_text(page, "Its order is DualPipeV")
    page.get_by_label("Schedule", exact=True).select_option("1f1b")
    expect_text(page, "Its order is 1F1B.")
    page.get_by_label("Forward F, ms").fill("10,20")
    expect_text(page, "Cost(forward=...) has 2 numbers, the schedule has 4 stages")
    page.get_by_label("Forward F, ms").fill("10,20,10,10")
    expect_text(page, "It can run: 4 ranks")
    page.locator(".pl-token").first.focus()
    page.keyboard.press("Delete")
    expect_text(page, "stage 0, microbatch 0: found 0 F, 1 B")
    expect_refused(page)


def test_the_picture_and_the_schedule_are_saved(page, tmp_path):
    for name in ("schedule.svg", "schedule.png", "schedule.csv"):
        kind = Path(name).suffix[1:].upper()
        with page.expect_download() as saved:
            page.get_by_role("button", name=f"Save {kind}").click()
        assert saved.value.suggested_filename == name
        saved.value.save_as(tmp_path / name)
    assert (tmp_path / "schedule.csv").read_text("utf-8") == one_f_one_b(4, 8).to_csv()
    assert (tmp_path / "schedule.png").read_bytes().startswith(b"\x89PNG")
    picture = (tmp_path / "schedule.svg").read_text("utf-8")
    assert "waits for 1B0" in picture and "var(" not in picture


def test_real_ranks_are_beside_the_prediction(page):
    recorded = page.locator(".pl-recorded")
    expect(recorded).to_have_attribute("data-pl-recorded", "1f1b-4-8")
    expect(recorded.get_by_role("status").first).to_contain_text("The step took")
    expect(recorded.locator(".pl-sentence")).to_contain_text("Recorded: what 4 ranks")
    expect(recorded.locator(".pl-picture")).to_contain_text("predicted")
    recorded.get_by_role("button", name="As fast as the machine went").click()
    expect(recorded).to_have_attribute("data-pl-recorded", "1f1b-4-8-unpaced")
    expect(recorded.locator(".pl-sentence")).to_contain_text("as fast as they can")
    line = recorded.locator("code")
    expect(line).to_have_text("pipelab run --schedule 1f1b -p 4 -m 8")

    page.get_by_label("Schedule", exact=True).select_option("interleaved")
    expect(line).to_have_text("pipelab run --schedule interleaved -p 4 -m 8 -v 2", timeout=PATIENCE)
    page.get_by_label("Microbatches m").fill("9")
    expect(recorded).to_contain_text("No recording of exactly this", timeout=PATIENCE)
    expect(recorded.locator(".pl-timeline")).to_be_hidden()


def test_the_line_below_runs_what_the_page_shows(page):
    page.locator(".pl-token").nth(4).focus()
    page.keyboard.press("Shift+ArrowRight")
    expect_text(page, "your own")
    expect(page.locator(".pl-recorded code")).to_contain_text("pipelab run --schedule '#t=")
    words = shlex.split(page.locator(".pl-recorded code").inner_text())
    shown = [row.locator(".pl-token").all_inner_texts() for row in page.locator(".pl-row").all()]
    assert job_of(parse(words[1:])).schedule.tokens == shown


def finger(page: Page) -> Callable[..., None]:
    """Touches of one finger: a kind, and where."""
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: dict[str, float]) -> None:
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": list(points)})

    return touch


def middle(locator: Locator) -> dict[str, float]:
    box = locator.bounding_box()
    assert box is not None
    return {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}


def test_fingers_drive_it(opened):
    page = opened(has_touch=True, is_mobile=True, viewport={"width": 400, "height": 860})
    touch = finger(page)
    expect(page.locator(".pl-token").nth(4)).to_have_text("0B0")
    token = page.locator(".pl-token").nth(4)
    token.scroll_into_view_if_needed()
    start, end = middle(token), middle(page.locator(".pl-token").nth(2))
    touch("touchStart", start)
    expect(page.locator(".pl-lifted")).to_have_text("0B0")
    touch("touchMove", {"x": end["x"] - 4, "y": end["y"]})
    expect(page.locator(".pl-drop")).to_have_count(1)
    touch("touchEnd")
    expect(page.locator(".pl-token").nth(2)).to_have_text("0B0")
    expect_text(page, "0B0")
    page.get_by_role("button", name="Undo").tap()
    expect_text(page, "Its order is 1F1B.")

    timeline = page.locator(".pl-editor .pl-timeline")
    timeline.get_by_role("button", name="Play").tap()
    expect(timeline.get_by_role("button", name="Pause")).to_be_visible()
    timeline.get_by_role("button", name="Pause").tap()
    box = timeline.locator(".pl-box, .pl-picture rect").nth(6)
    box.scroll_into_view_if_needed()
    box.tap(force=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_quick_finger_scrolls_the_row(opened):
    page = opened(has_touch=True, is_mobile=True, viewport={"width": 400, "height": 860})
    touch = finger(page)
    token = page.locator(".pl-token").nth(3)
    token.scroll_into_view_if_needed()
    start = middle(token)
    touch("touchStart", start)
    touch("touchMove", {"x": start["x"] - 60, "y": start["y"]})
    expect(page.locator(".pl-lifted")).to_have_count(0)
    touch("touchEnd")
    expect(page.locator(".pl-token").nth(3)).to_have_text("0F3")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 2560])
def test_it_fits_narrow_and_wide_in_both_themes(opened, theme, width):
    page = opened(viewport={"width": width, "height": 900}, color_scheme=theme)
    expect(page.locator(".pl-recorded")).to_have_attribute("data-pl-recorded", "1f1b-4-8")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.locator(".pl-playground").evaluate("(n) => getComputedStyle(n).backgroundColor")
    shade = sum(int(part) for part in ground.strip("rgb()").split(",")[:3]) / 3
    assert (shade < 80) == (theme == "dark")


def test_all_of_it_is_reached_by_keyboard(page):
    """Tab goes through the controls in the order in which they stand on the page."""
    expect(page.locator(".pl-recorded")).to_have_attribute("data-pl-recorded", "1f1b-4-8")
    seen: list[str] = []
    for _ in range(80):
        page.keyboard.press("Tab")
        name = page.evaluate(
            "(() => { const n = document.activeElement; "
            "return n.labels?.[0]?.textContent ?? n.ariaLabel ?? n.textContent; })()"
        )
        seen.append(name.strip())
        if name == "Copy":
            break
    wanted = ["Schedule", "Microbatches m", "0F0, rank 0, place 1", "Copy link", "Paced", "Copy"]
    places = [seen.index(name) for name in wanted]
    assert places == sorted(places), seen

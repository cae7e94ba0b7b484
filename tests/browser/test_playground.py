"""The playground in Chromium, from a plain web server that has only its own folder."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from pipelab.schedules import one_f_one_b
from pipelab.site.playground import build_playground

pytestmark = pytest.mark.slow  # fetches 14 MB by npm, and starts Python in the browser
PATIENCE = 60_000  # ms
STATUS = ".pl-status"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page below a path, as on a site."""
    root = tmp_path_factory.mktemp("site")
    build_playground(root / "some" / "path")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/some/path/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(PATIENCE)
    context.on("console", lambda m: m.type == "error" and complaints.append(m.text))
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    own = (address.removesuffix("some/path/"), "data:", "blob:")
    context.on("request", lambda r: r.url.startswith(own) or complaints.append(r.url))
    page = context.new_page()
    page.goto(address)
    yield page
    context.close()
    assert not complaints, complaints


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
    assert page.url == f"{address}#m=32&k=2"

    page.locator(".pl-token").nth(4).focus()
    page.keyboard.press("Shift+ArrowRight")
    expect_text(page, "your own: 1F1B with two swapped: 0B0 and 0F4 on rank 0")
    expect(page.get_by_label("Schedule", exact=True)).to_have_value("")
    expect_text(page, "Par is")
    shown, link = page.locator(STATUS).inner_text(), page.url
    assert len(link) < 500
    other = page.context.new_page()
    other.goto(link)
    expect(other.locator(STATUS)).to_have_text(shown, timeout=PATIENCE)
    page.get_by_role("button", name="Undo").click()
    expect_text(page, "Its order is 1F1B.")
    assert page.url == f"{address}#m=32&k=2"
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

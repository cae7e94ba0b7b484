"""The schedule editor's grid, by mouse and by keyboard, in a separate page."""

import re

import pytest
from playwright.sync_api import Page, expect

from pipelab.schedules import gpipe, one_f_one_b
from pipelab.widgets import ScheduleEditor
from pipelab.widgets.page import page as page_of


def text_of(editor: ScheduleEditor) -> str:
    names = [n for n in editor.keys if not n.startswith("_") and n not in ("layout", "tabbable")]
    state = {name: getattr(editor, name) for name in names if name != "tooltip"}
    return page_of(editor._esm, editor._css, state, "editor", "")


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    editor = ScheduleEditor(one_f_one_b(2, 2))
    editor.rows = [["0F0", "0F1", "0B0", "0B1"], ["1B0", "1F0", "1F1", "1B1"]]
    path = tmp_path_factory.mktemp("editor") / "editor.html"
    text = text_of(editor)
    sent = "save_changes: () => { document.body.dataset.stamp = JSON.stringify(values.stamp); }"
    assert "save_changes: nothing" in text
    path.write_text(text.replace("save_changes: nothing", sent), "utf-8")
    editor.close()
    return path


@pytest.mark.parametrize("width", [880, 1100])  # JupyterLab at 1280, with and without its files
def test_tokens_message_and_picture_are_on_one_screen(sheet, tmp_path, width):
    """The time axis was below the edge of a window of 1280 x 800."""
    editor = ScheduleEditor(gpipe(4, 4))
    path = tmp_path / "editor.html"
    path.write_text(text_of(editor), "utf-8")
    page = sheet(path, viewport={"width": width, "height": 680})
    top = page.locator(".pl-root").bounding_box()["y"]
    for part in (".pl-tokens", ".pl-stamp button", ".pl-status", ".pl-picture", ".pl-scrub"):
        found = page.locator(part).bounding_box()
        assert found["y"] + found["height"] <= top + 680, part
    numbers = re.findall(r"\d+\.\d %|\d+ ms", page.locator(".pl-sentence").inner_text())
    assert not numbers, "the message says them"
    editor.close()


def rows(page: Page) -> list[str]:
    return [
        " ".join(row.locator(".pl-token").all_inner_texts())
        for row in page.locator(".pl-row").all()
    ]


def test_what_is_refused_is_marked_and_said(sheet, grid):
    page = sheet(grid)
    assert "rank 1 runs 1B0" in page.locator(".pl-status").inner_text()
    expect(page.locator(".pl-token[aria-invalid=true]")).to_have_text(["1B0", "1F0"])
    expect(page.get_by_role("button", name="Run it")).to_have_attribute("aria-disabled", "true")


def test_tokens_move_by_keyboard(sheet, grid):
    page = sheet(grid)
    page.get_by_role("button", name="0F0, rank 0, place 1").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert rows(page)[0] == "0F0 0B0 0F1 0B1"
    expect(page.get_by_role("button", name="0F1, rank 0, place 3")).to_be_focused()
    page.keyboard.press("Shift+ArrowDown")
    assert rows(page) == ["0F0 0B0 0B1", "1B0 1F0 0F1 1F1 1B1"]
    page.keyboard.press("Delete")
    assert rows(page)[1] == "1B0 1F0 1F1 1B1"
    for _ in range(3):
        page.get_by_role("button", name="Undo").click()
    assert rows(page) == ["0F0 0F1 0B0 0B1", "1B0 1F0 1F1 1B1"]
    page.get_by_role("button", name="Redo").click()
    assert rows(page)[0] == "0F0 0B0 0F1 0B1", "the first edit again"
    page.get_by_role("button", name="0F0, rank 0, place 1").focus()
    page.keyboard.press("Control+z")
    assert rows(page) == ["0F0 0F1 0B0 0B1", "1B0 1F0 1F1 1B1"]
    page.keyboard.press("Control+y")
    page.keyboard.press("Control+Shift+z")
    assert rows(page) == ["0F0 0B0 0B1", "1B0 1F0 0F1 1F1 1B1"]
    for _ in range(2):
        page.keyboard.press("Control+z")
    page.get_by_label(re.compile("Token to add to rank [01]")).fill("1w0")
    page.keyboard.press("Enter")
    assert "1W0" in " ".join(rows(page))


def test_the_schedule_is_saved_as_csv(sheet, grid):
    page = sheet(grid)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save CSV").focus()
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "schedule.csv"
    assert download.value.path().read_text() == "0F0,0F1,0B0,0B1\n1B0,1F0,1F1,1B1\n"


def test_a_block_is_stamped_by_keyboard(sheet, grid):
    page = sheet(grid)
    period = page.get_by_role("spinbutton", name="Period")
    expect(period).to_have_value("3")  # F and B of microbatch 0: none can be shorter
    period.fill("4")
    page.get_by_role("spinbutton", name="Microbatches").fill("5")
    page.keyboard.press("Enter")
    assert page.locator("body").get_attribute("data-stamp") == "[1,4,5]"
    page.get_by_role("spinbutton", name="Period").fill("0")
    page.get_by_role("button", name="Stamp block").click()
    assert page.locator("body").get_attribute("data-stamp") == "[1,4,5]", "no period"


def test_tokens_move_by_dragging(sheet, grid):
    page = sheet(grid)
    token = page.get_by_role("button", name="1B0, rank 1, place 1")
    token.drag_to(page.get_by_role("button", name="1F1, rank 1"), target_position={"x": 3, "y": 9})
    assert rows(page)[1] == "1F0 1B0 1F1 1B1"

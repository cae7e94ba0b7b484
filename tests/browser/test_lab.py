"""The first lesson in a real JupyterLab, by mouse and by keyboard."""

import re
from itertools import dropwhile
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser_steps import LAB, under_way, wait_for

LONG = "import time; print('begun', flush=True); time.sleep(600)"
EDITOR = """from pipelab.schedules import one_f_one_b
from pipelab.widgets import ScheduleEditor

editor = ScheduleEditor(one_f_one_b(2, 2))
editor"""

TABS = ["Schedule", "Ranks p", "Microbatches m", "Run again", "Stop", "Reset", "More"]
PREDICTED = LAB.replace("()", '(show=("prediction",))')
FOCUSED = """() => {
    const node = document.activeElement;
    const style = getComputedStyle(node);
    const name = node.labels?.[0]?.textContent ?? node.textContent;
    return [name.trim(), style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2];
}"""
# How many actions are drawn: as boxes, or flat, where a delay of others leaves them 3 px at most.
ACTIONS = """() => {
    const lab = document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden) [data-pl-state]');
    const flat = [...lab.querySelectorAll('.pl-dense path')].map((p) => p.getAttribute('d'));
    return lab.querySelectorAll('.pl-box').length + flat.join('').split('M').length - 1;
}"""
RECORD_WHAT_IS_LIVE = """() => {
    const drawn = ACTIONS;
    window.seen = [];
    const lab = document.querySelector('[data-pl-state]');
    const count = (parts) => lab.querySelectorAll(parts).length;
    const look = () => {
        const words = lab.querySelector('.pl-sentence').textContent;
        if (lab.dataset.plLive === 'true')
            window.seen.push([drawn(), count('.pl-ghost path[d^=M]'), words]);
        window.heights = (window.heights ?? new Set()).add(lab.offsetHeight);
        requestAnimationFrame(look);
    };
    look();
}""".replace("ACTIONS", ACTIONS)
SHOWN = "image => image.complete && image.naturalWidth > 1000"


def summary(lab) -> str:
    return lab.root.locator(".pl-summary").inner_text()


def expect_picture(lab, microbatches: int) -> None:
    """The whole trace is drawn: 4 ranks, a forward and a backward of each microbatch."""
    picture = lab.root.locator(".pl-picture")
    words = re.compile(f"Recorded timeline of .*4 ranks, {microbatches} microbatches")
    expect(picture).to_have_attribute("aria-label", words)
    lab.page.wait_for_function(f"() => ({ACTIONS})() === {8 * microbatches}")


def test_a_learner_runs_the_lesson_and_changes_the_pipeline(lab, lesson):
    lab.open(lesson)
    lab.run_all()
    lab.expect_run(1)
    expect(lab.page.get_by_text("16 of 16 gradients are equal")).to_be_visible()
    expect_picture(lab, 8)
    first = summary(lab)
    assert "(p−1)/(m+p−1) says 27.3 %" in first

    # All parts have names and roles.
    expect(lab.root).to_match_aria_snapshot(
        """
        - region "Timeline lab":
          - form "Controls":
            - combobox "Schedule"
            - slider "Ranks p": "4"
            - slider "Microbatches m": "8"
            - button "Run again"
            - button "Stop" [disabled]
            - button "Reset"
            - group: More
          - status: /Run 1/
          - list "The run in numbers":
            - listitem: /bubble, (measured|busy machine)/
            - listitem: /bubble by/
          - figure:
            - img "The bubble of 1 runs against microbatches"
          - region "Timeline"
        """
    )

    # Arrow keys move the slider; JupyterLab, which moves between cells with them, gets none.
    slider = lab.root.get_by_role("slider", name="Microbatches m")
    slider.fill("5")
    lab.expect_run(2)
    slider.focus()
    lab.page.keyboard.press("ArrowLeft")
    lab.expect_run(3)
    expect(slider).to_be_focused()
    assert "4 microbatches" in summary(lab) and summary(lab) != first
    assert "(p−1)/(m+p−1) says 42.9 %" in summary(lab)
    expect_picture(lab, 4)

    # Every control by Tab, each with a name and a visible focus.
    lab.root.get_by_label("Schedule", exact=True).focus()
    seen = [lab.page.evaluate(FOCUSED)]
    for _ in TABS[1:]:
        lab.page.keyboard.press("Tab")
        seen.append(lab.page.evaluate(FOCUSED))
    assert seen == [[name, True] for name in TABS]
    cells = lab.page.locator(".jp-Cell").count()
    lab.page.keyboard.press("d")
    lab.page.keyboard.press("d")
    assert lab.page.locator(".jp-Cell").count() == cells, "D D deleted the cell"
    lab.page.keyboard.press("Enter")  # opens More
    expect(lab.root.get_by_label("Pacing")).to_have_value("1")
    expect(lab.root.get_by_role("checkbox", name="Messages travel")).to_be_checked()

    # A change during a run wins over it; Stop ends it, and the last picture stays.
    lab.root.get_by_label("Pacing").select_option("30")  # 6 s if left alone
    expect(lab.root).to_have_attribute("data-pl-live", "true")
    lab.root.get_by_label("Schedule", exact=True).select_option("sequential")  # 14 s
    lab.root.get_by_role("slider", name="Ranks p").fill("8")
    expect(lab.root.locator(".pl-summary")).to_contain_text("sequential on 8 ranks")
    lab.root.get_by_role("button", name="Stop").click()
    expect(lab.root).to_have_attribute("data-pl-state", "idle")
    assert "was stopped. The picture shows run 3." in summary(lab)
    expect_picture(lab, 4)

    # Back to the lesson's start, beside the run before; an empty chart; the picture as a file.
    lab.root.get_by_role("button", name="Reset").click()
    expect(lab.root).to_have_attribute("data-pl-state", "done")
    expect_picture(lab, 8)
    expect(lab.root.get_by_label("Pacing")).to_have_value("1")
    expect(lab.root.locator(".pl-ghost path[d^=M]")).to_have_count(0)
    lab.root.get_by_role("button", name="The one before").click()
    expect(lab.root.locator(".pl-ghost path[d^=M]")).not_to_have_count(0)
    expect(lab.root.locator(".pl-mark")).to_have_count(4)
    lab.root.get_by_role("button", name="Clear").click()
    expect(lab.root.locator(".pl-mark")).to_have_count(0)
    with lab.page.expect_download() as saved:
        lab.root.get_by_role("button", name="Export").click()
    assert saved.value.suggested_filename == "1f1b-4-ranks-8-microbatches.html"
    assert "default-src 'none'" in Path(saved.value.path()).read_text("utf-8")


def test_a_learner_observes_replays_and_reads_while_ranks_and_kernel_work(lab, notebook):
    root = lab.open_with_all_controls(notebook(PREDICTED, LONG))

    # Live: bars come while the ranks work, over the prediction, and the trace takes their place.
    lab.page.evaluate(RECORD_WHAT_IS_LIVE)  # seen from inside: from here, a second may be missed
    root.get_by_label("Pacing").select_option("5")
    lab.expect_run(2)
    expect_picture(lab, 8)
    seen = lab.page.evaluate("() => window.seen")
    counts = [boxes for boxes, _, _ in dropwhile(lambda look: look[0] == 64, seen)]  # still run 1
    assert counts == sorted(counts) and len(set(counts)) > 3
    assert all(ghosts and words.startswith("Live: 1F1B on 4 ranks") for _, ghosts, words in seen)
    assert root.locator(".pl-mark").count() == 2
    heights = lab.page.evaluate("() => [...window.heights]")
    assert len(heights) == 1, "nothing moves while a run starts, shows its bars and ends"

    # The kernel is busy; the replay does not need it.
    lab.start_cell(1)
    expect(lab.page.locator(".jp-InputArea-prompt", has_text="*")).to_be_visible()
    root.get_by_role("button", name="To the start").click()
    root.get_by_role("button", name="Play").click()
    under_way(lab.page, 0.1)
    root.get_by_role("button", name="Pause").click()
    picture = root.locator(".pl-picture")
    picture.focus()
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        lab.page.keyboard.press(key)
    expect(root.locator(".pl-arrow")).to_have_count(6)
    expect(lab.page.locator(".jp-InputArea-prompt", has_text="*")).to_be_visible()
    cells = lab.page.locator(".jp-Cell").count()
    lab.page.keyboard.press("d")
    lab.page.keyboard.press("d")
    assert lab.page.locator(".jp-Cell").count() == cells
    lab.command("notebook:interrupt-kernel")
    expect(lab.output(1).last).to_contain_text("KeyboardInterrupt")


def test_a_fresh_clone_shows_its_pictures_in_words_too(lab, lesson):
    """Nobody trusts the notebook yet, and no kernel has run."""
    lab.open(lesson)
    pictures = lab.page.locator(".jp-OutputArea-output img")
    expect(pictures).to_have_count(1)
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
        assert "Recorded timeline of the schedule 1F1B" in picture.get_attribute("alt")
        assert picture.evaluate(SHOWN)
    assert not lab.root.count()


def test_tomorrow_the_last_run_is_still_there(lab, notebook):
    """A notebook that its learner saved, and opens again without a kernel."""
    assert lab.server.saves_widget_state, "the package's labconfig lets JupyterLab save the state"
    name = notebook(LAB)
    lab.open(name)
    lab.run_all()
    lab.expect_run(1)
    lab.root.get_by_label("Schedule", exact=True).select_option("gpipe")
    lab.expect_run(2)
    lab.save()
    lab.server.end_kernels()
    lab.open(name)
    lab.expect_run(2)
    lab.root.scroll_into_view_if_needed()
    expect_picture(lab, 8)
    assert "Run 2: GPipe on 4 ranks" in summary(lab)
    lab.root.get_by_role("slider", name="Microbatches m").fill("3")
    expect(lab.root.get_by_text("No answer from the kernel")).to_be_visible()


def test_an_interrupt_leaves_the_run_and_stop_leaves_no_process(lab, notebook):
    """The kernel's Stop sends SIGINT to all that it started; a live run continues until its own."""
    root = lab.open_with_all_controls(notebook(LAB, LONG))
    root.get_by_label("Pacing").select_option("30")  # 10 s
    expect(root).to_have_attribute("data-pl-live", "true")

    lab.command("notebook:interrupt-kernel")  # nothing is to be interrupted
    expect_bars_to_come(lab)
    lab.start_cell(1)
    expect(lab.output(1)).to_contain_text("begun")  # its "*" is there before the kernel has begun
    lab.command("notebook:interrupt-kernel")
    expect(lab.output(1).last).to_contain_text("KeyboardInterrupt")
    expect_bars_to_come(lab)
    assert len(lab.server.ranks()) == 4

    root.get_by_role("button", name="Stop").click()
    expect(root).to_have_attribute("data-pl-state", "idle")
    assert "Run 2 was stopped. The picture shows run 1." in summary(lab)
    wait_for(lambda: not lab.server.ranks())
    expect_picture(lab, 8)

    root.get_by_label("Pacing").select_option("1")
    lab.expect_run(3)
    expect_picture(lab, 8)
    assert len(lab.server.ranks()) == 4, "they wait for the next run"


def test_reports_of_a_run_in_progress_keep_zoom_and_choice(lab, notebook):
    """Each report brings a new trace, ten times a second; the learner's view of it stays."""
    root = lab.open_with_all_controls(notebook(PREDICTED))
    root.get_by_label("Pacing").select_option("5")  # 2 s
    expect(root).to_have_attribute("data-pl-live", "true")
    lab.page.wait_for_function(f"() => ({ACTIONS})() > 2")

    root.get_by_role("button", name="Zoom in").click()
    root.get_by_role("button", name="Prediction").click()  # off
    root.locator(".pl-picture").focus()
    lab.page.keyboard.press("ArrowRight")
    view = root.locator(".pl-timeline")
    chosen = root.locator(".pl-about")
    expect(chosen).to_contain_text("on rank 0:")
    action, window = chosen.inner_text().split(":")[0], view.get_attribute("data-pl-from")
    whole = float(view.get_attribute("data-pl-to")) - float(window)

    for state in ("true", "false"):  # reports, then the record
        if state == "true":
            expect_bars_to_come(lab)
        expect(root).to_have_attribute("data-pl-live", state)
        expect(chosen).to_contain_text(action)
        expect(root.locator(".pl-chosen")).to_be_visible()
        assert root.locator(".pl-ghost path[d^=M]").count() == 0, "it was switched off"
        shown = [float(view.get_attribute(f"data-pl-{end}")) for end in ("from", "to")]
        assert shown[0] == float(window) and shown[1] - shown[0] == pytest.approx(whole)


def expect_bars_to_come(lab) -> None:
    before = lab.page.evaluate(ACTIONS)
    lab.page.wait_for_function(f"() => ({ACTIONS})() > {before}")
    expect(lab.root).to_have_attribute("data-pl-live", "true")


def test_a_learner_edits_a_schedule_and_real_ranks_run_it(lab, notebook):
    """By dragging and by keyboard; JupyterLab, which has its own use for these keys, gets none."""
    lab.open(notebook(EDITOR, "print(*editor.rows, editor.trace.source)"))
    lab.start_cell(0)
    root, message = lab.root, lab.root.locator(".pl-status")
    expect(message).to_contain_text("It can run: 2 ranks, 2 microbatches, predicted bubble 33.3 %")
    root.scroll_into_view_if_needed()

    root.get_by_role("button", name="1B0, rank 1, place 2").drag_to(
        root.get_by_role("button", name="1F0, rank 1, place 1"), target_position={"x": 3, "y": 9}
    )
    expect(message).to_contain_text("rank 1 runs 1B0 (place 1) before 1F0")
    expect(root.locator(".pl-token[aria-invalid=true]")).to_have_text(["1B0", "1F0"])
    expect(root.get_by_role("button", name="Run it")).to_have_attribute("aria-disabled", "true")
    root.get_by_role("button", name="Undo").click()
    expect(message).to_contain_text("It can run")

    cells = lab.page.locator(".jp-Cell").count()
    root.get_by_role("button", name="0F1, rank 0, place 2").focus()
    lab.page.keyboard.press("Shift+ArrowRight")
    expect(root.get_by_role("button", name="0F1, rank 0, place 3")).to_be_focused()
    expect(message).to_contain_text("It can run")  # the same words as before: they are shown again
    for key in ("d", "d", "Delete"):
        lab.page.keyboard.press(key)
    expect(message).to_contain_text("found 0 F, 1 B")
    root.get_by_role("button", name="Undo").click()
    expect(message).to_contain_text("It can run")
    assert lab.page.locator(".jp-Cell").count() == cells

    root.get_by_role("button", name="Run it").focus()
    lab.page.keyboard.press("Enter")
    expect(message).to_contain_text("It ran: bubble")
    expect(root.locator(".pl-sentence")).to_contain_text("Recorded: what 2 ranks, real processes")
    lab.start_cell(1)
    rows = "['0F0', '0B0', '0F1', '0B1'] ['1F0', '1B0', '1F1', '1B1'] recorded"
    expect(lab.output(1)).to_have_text(rows)
    assert len(lab.server.ranks()) == 2, "they wait for the next run"

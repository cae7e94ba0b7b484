"""The first lesson in a real JupyterLab, by mouse and by keyboard."""

import re

from playwright.sync_api import expect

TABS = ["Schedule", "Ranks p", "Microbatches m", "Run again", "Stop", "More"]
FOCUSED = """() => {
    const node = document.activeElement;
    const style = getComputedStyle(node);
    const name = node.labels?.[0]?.textContent ?? node.textContent;
    return [name.trim(), style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2];
}"""
SHOWN = "image => image.complete && image.naturalWidth > 1000"


def summary(lab) -> str:
    return lab.root.locator(".pl-summary").inner_text()


def expect_picture(lab, microbatches: int) -> None:
    """The whole trace is drawn: 4 ranks, a forward and a backward of each microbatch."""
    picture = lab.root.locator(".pl-picture")
    words = re.compile(f"Recorded timeline of .*4 ranks, {microbatches} microbatches")
    expect(picture).to_have_attribute("aria-label", words)
    expect(lab.root.locator(".pl-box")).to_have_count(8 * microbatches)


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
            - group: More
          - status: /Run 1/
          - region "Timeline"
          - list "The run in numbers":
            - listitem: /bubble, measured/
            - listitem: /bubble, predicted/
            - listitem: /bubble by/
          - figure:
            - img "The bubble of 1 runs against microbatches"
        """
    )

    # Arrow keys move the slider; JupyterLab, which moves between cells with them, gets none.
    slider = lab.root.get_by_role("slider", name="Microbatches m")
    slider.focus()
    for _ in range(4):
        lab.page.keyboard.press("ArrowLeft")
    lab.expect_run(2)
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
    lab.root.get_by_role("slider", name="Microbatches m").fill("16")
    lab.root.get_by_label("Schedule", exact=True).select_option("sequential")  # 2 s if left alone
    lab.root.get_by_role("slider", name="Ranks p").fill("8")  # 4 s
    expect(lab.root).to_have_attribute("data-pl-state", "running")
    lab.root.get_by_role("button", name="Stop").click()
    expect(lab.root).to_have_attribute("data-pl-state", "idle")
    assert "was stopped. The picture shows run 2." in summary(lab)
    expect_picture(lab, 4)


def test_a_learner_watches_replays_and_reads_while_ranks_and_kernel_work(lab, notebook):
    lab.open(notebook, "import time; time.sleep(4)")
    lab.run_all()
    lab.expect_run(1)
    root = lab.root
    root.scroll_into_view_if_needed()

    # Live: bars come while the ranks work, over the prediction, and the trace takes their place.
    root.get_by_text("More", exact=True).click()
    root.get_by_label("Pacing").select_option("5")
    expect(root).to_have_attribute("data-pl-live", "true")
    first = root.locator(".pl-box").count()
    assert first < 64
    lab.page.wait_for_function(f"() => document.querySelectorAll('.pl-box').length > {first + 5}")
    assert root.locator(".pl-ghost path[d^=M]").count()
    assert "Live: 1f1b on 4 ranks" in root.locator(".pl-sentence").inner_text()
    lab.expect_run(2)
    expect_picture(lab, 8)
    assert root.locator(".pl-mark").count() == 2

    # The kernel is busy for 4 s; the replay does not need it.
    lab.page.evaluate("() => { jupyterapp.shell.currentWidget.content.activeCellIndex = 1; }")
    lab.command("notebook:run-cell")
    expect(lab.page.locator(".jp-InputArea-prompt", has_text="*")).to_be_visible()
    root.get_by_role("button", name="To the start").click()
    root.get_by_role("button", name="Play").click()
    lab.page.wait_for_function("() => document.querySelector('.pl-timeline').dataset.plTime > 0.1")
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


def test_a_fresh_clone_shows_its_pictures_in_words_too(lab, lesson):
    """Nobody trusts the notebook yet, and no kernel has run."""
    lab.open(lesson)
    pictures = lab.page.locator(".jp-OutputArea-output img")
    expect(pictures).to_have_count(2)
    for picture in pictures.all():
        picture.scroll_into_view_if_needed()
        assert "Recorded timeline of the schedule 1f1b" in picture.get_attribute("alt")
        assert picture.evaluate(SHOWN)
    assert not lab.root.count()


def test_tomorrow_the_last_run_is_still_there(lab, notebook):
    """A notebook that its learner saved, and opens again without a kernel."""
    assert lab.server.saves_widget_state, "the package's labconfig lets JupyterLab save the state"
    lab.open(notebook)
    lab.run_all()
    lab.expect_run(1)
    lab.root.get_by_label("Schedule", exact=True).select_option("gpipe")
    lab.expect_run(2)
    lab.save()
    lab.server.end_kernels()
    lab.open(notebook)
    lab.expect_run(2)
    lab.root.scroll_into_view_if_needed()
    expect_picture(lab, 8)
    assert summary(lab).startswith("Run 2: gpipe on 4 ranks")
    lab.root.get_by_role("slider", name="Microbatches m").fill("3")
    expect(lab.root.get_by_text("No answer from the kernel")).to_be_visible()

"""From a control's change to the picture, as a learner in front of JupyterLab sees it.

Takes a minute and wants a quiet machine: ``python -m pytest -m slow -s tests/browser``.
"""

import uuid
from pathlib import Path
from statistics import median

import pytest

from pipelab.lessons.edition import learner, read, write
from tests.browser_steps import LAB

pytestmark = pytest.mark.slow

LESSONS = Path(__file__).parents[2] / "notebooks"

CHOICES = ["gpipe", "1f1b"] * 4
SIZES = [9, 8] * 4  # never the one that is there
OBSERVE = """() => {
    const lab = document.querySelector('[data-pl-state]');
    const run = () => lab.dataset.plRun;
    const clock = () => performance.now();
    for (const what of ['input', 'change'])
        lab.addEventListener(what, () => { window.asked ??= [clock(), run()]; }, true);
    const look = () => {
        if (window.asked) {
            const boxes = lab.querySelectorAll('.pl-box').length;
            const isLive = lab.dataset.plLive === 'true';
            if (isLive && boxes && boxes < window.whole) window.first ??= clock() - window.asked[0];
            if (lab.dataset.plState === 'done' && run() !== window.asked[1])
                window.last ??= clock() - window.asked[0];
        }
        requestAnimationFrame(look);
    };
    look();
}"""
AGAIN = """() => {
    const lab = document.querySelector('[data-pl-state]');
    window.whole = lab.querySelectorAll('.pl-box').length;
    window.asked = window.first = window.last = undefined;
}"""


def seconds(lab, change, what):
    """From a change of a control until it is seen: the first live bar, or the whole picture."""
    run = int(lab.root.get_attribute("data-pl-run"))
    lab.page.evaluate(AGAIN)
    change()
    lab.expect_run(run + 1)
    return lab.page.wait_for_function(f"() => window.{what}").json_value() / 1000


def test_what_a_change_takes(lab, notebook, capsys):
    root = lab.open_with_all_controls(notebook(LAB))  # p = 4, m = 8
    lab.page.evaluate(OBSERVE)
    schedule = root.get_by_label("Schedule", exact=True)
    size = root.get_by_role("slider", name="Microbatches m")
    changes = {
        "a choice": [lambda name=name: schedule.select_option(name) for name in CHOICES],
        "a slider": [lambda m=m: size.fill(str(m)) for m in SIZES],
    }
    for pacing, what, name, most in (
        ("5", "first", "paced, first bar", 0.25),
        ("off", "last", "unpaced, new picture", 0.25),
    ):
        run = int(root.get_attribute("data-pl-run"))
        if root.get_by_label("Pacing").input_value() != pacing:
            root.get_by_label("Pacing").select_option(pacing)
            lab.expect_run(run + 1)
        for control, acts in changes.items():
            found = [seconds(lab, act, what) for act in acts]
            line = f"{name}, {control}: median {median(found):.2f} s, {min(found):.2f} to"
            with capsys.disabled():
                print(f"\n{line} {max(found):.2f} s, wanted {most} s", end="")


def test_what_the_first_picture_takes(lab, capsys):
    """Of lesson 0, from the start of its first cell in a new kernel; all cells are run at once."""
    (source,) = LESSONS.glob("00_*.ipynb")
    file = f"{uuid.uuid4().hex[:8]}.ipynb"
    write(learner(read(source)), lab.server.notebooks / file)
    lab.open(file)
    lab.connect()
    lab.page.evaluate("() => { window.asked = performance.now(); }")
    lab.command("notebook:run-all-cells")
    seen = "() => document.querySelector('.pl-box') && performance.now() - window.asked"
    took = lab.page.wait_for_function(seen).json_value() / 1000
    with capsys.disabled():
        print(f"\nlesson 0, first picture: {took:.1f} s, wanted 5 s", end="")

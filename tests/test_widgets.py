"""The widgets without a browser: runs, words, traits, and what a stored notebook keeps of them."""

import base64
import io
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from pipelab.errors import BatchError, PartitionError, PipelineClosed, ScheduleError
from pipelab.schedules import gpipe, one_f_one_b, sequential
from pipelab.simulator import Cost, simulate
from pipelab.trace import Setting, Trace
from pipelab.widgets import Timeline, TimelineLab
from pipelab.widgets.still import png
from pipelab.widgets.words import error_text, formula_of

WIDGETS = Path(sys.modules["pipelab.widgets"].__file__).parent
QUICK = Cost(forward=0.002, backward_input=0.002, backward_weight=0.002)
SLOW = Cost(forward=5.0, backward_input=5.0, backward_weight=5.0)


def ranks() -> list[int]:
    """The processes of all pipelines: the living children of this process's fork server."""
    return [
        rank.pid
        for child in psutil.Process().children()
        if any("multiprocessing.forkserver" in word for word in child.cmdline())
        for rank in child.children()
        if rank.status() != psutil.STATUS_ZOMBIE
    ]


def wait_for(condition, seconds=20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def make():
    """TimelineLab, closed at the end of the test, however it ends."""
    labs = []

    def make(**settings) -> TimelineLab:
        labs.append(TimelineLab(**settings))
        return labs[-1]

    yield make
    for lab in labs:
        lab.close()
    wait_for(lambda: not ranks())  # a run that another one has replaced ends in its own thread


@pytest.fixture
def lab(make):
    return make(num_ranks=2, num_microbatches=3, pace=QUICK)


# ------------------------------------------------------------------------------------- runs


def test_nothing_runs_before_it_is_asked_for(lab):
    assert lab.state == "idle" and lab.trace is None and not ranks()


def test_a_run_shows_what_real_ranks_recorded(lab):
    trace = lab.wait()
    assert trace is lab.trace and trace.source == "recorded"
    assert (trace.setting.ranks, trace.setting.microbatches) == (2, 3)
    assert trace.setting.paced.startswith("F 2 ms, B 4 ms")
    assert lab.state == "done" and lab.run_number == 1 and lab.error == ""
    assert "(p−1)/(m+p−1) says 25.0 %" in lab.summary and "Loss 2." in lab.summary
    assert "2 ranks, 3 microbatches" in lab.alt
    assert [row[0] for row in lab.table["rows"]] == ["rank 0", "rank 1"]
    assert lab.table["caption"] == trace.source_line
    assert Image.open(io.BytesIO(lab.picture)).size[0] > 1000
    assert not ranks(), "the ranks live as long as their run"


def test_a_changed_setting_runs_again_and_loss_does_not_depend_on_it(lab):
    lab.wait()
    loss = lab.figures[-1]
    lab.num_microbatches = 5
    lab.schedule = "gpipe"
    trace = lab.wait()
    assert (trace.setting.schedule, trace.setting.microbatches) == ("gpipe", 5)
    assert lab.figures[-1] == loss
    assert lab.picture and lab.run_number > 1
    number = lab.run_number
    lab.num_microbatches = 5
    assert lab.wait() is trace and lab.run_number == number, "an equal value is no change"


def test_a_message_with_two_settings_starts_one_run(lab):
    lab.wait()
    lab.set_state({"num_ranks": 3, "num_microbatches": 2})
    assert lab.wait().setting.ranks == 3
    assert lab.run_number == 2


def test_the_browser_asks_for_a_run_and_for_its_end(lab, make):
    first = lab.wait()
    lab.set_state({"run_asked": 1})
    assert lab.wait() is not first and lab.run_number == 2
    slow = make(num_ranks=2, num_microbatches=8, pace=SLOW)
    slow.run()
    wait_for(lambda: len(ranks()) == 2)
    slow.set_state({"stop_asked": 1})
    with pytest.raises(PipelineClosed, match="run 1 was stopped"):
        slow.wait()
    assert slow.state == "idle" and slow.summary == "Run 1 was stopped."
    assert not ranks()


def test_the_latest_change_wins(make):
    lab = make(num_ranks=2, num_microbatches=8, pace=SLOW)  # 2 minutes, if it were left alone
    began = time.monotonic()
    lab.run()
    wait_for(lambda: len(ranks()) == 2)
    for number in (7, 6, 5):
        lab.num_microbatches = number
    lab.paced = False
    trace = lab.wait()
    assert trace.setting.microbatches == 5 and trace.setting.paced == ""
    assert "unpaced" in lab.table["caption"]
    assert time.monotonic() - began < 60


def test_two_labs_run_one_after_the_other(make):
    labs = [make(num_ranks=2, num_microbatches=4, pace=QUICK) for _ in range(2)]
    most, done = [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            most[0] = max(most[0], len(ranks()))
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for lab in labs:
        lab.run()
    for lab in labs:
        lab.wait()
    done.set()
    watcher.join()
    assert most[0] == 2


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"num_ranks": 9}, PartitionError, "8 layers cannot fill 9 stages"),
        ({"num_ranks": 0}, ScheduleError, "num_ranks is 0"),
        ({"num_microbatches": 257}, BatchError, "256 rows cannot be cut into 257"),
        ({"schedule": "2f2b"}, ScheduleError, "choose gpipe, 1f1b, sequential"),
    ],
)
def test_an_error_is_shown_in_words_and_raised_by_wait(lab, settings, error, words):
    lab.wait()
    lab.set_state(settings)
    with pytest.raises(error, match=words):
        lab.wait()
    assert lab.state == "error" and words in lab.error
    assert "failed" in lab.summary and "The picture shows run 1." in lab.summary
    lab.set_state({"num_ranks": 2, "num_microbatches": 3, "schedule": "1f1b"})
    lab.wait()
    assert lab.state == "done" and lab.error == ""


def test_a_wait_that_is_too_short_leaves_the_run_alone(make):
    lab = make(num_ranks=2, num_microbatches=2, pace=SLOW)
    with pytest.raises(TimeoutError, match=r"run 1 has not ended after 0\.1 s"):
        lab.wait(0.1)
    assert lab.state == "running"
    lab.close()
    assert not ranks()
    with pytest.raises(PipelineClosed, match="make a new TimelineLab"):
        lab.run()


def test_the_end_of_the_interpreter_leaves_no_process(tmp_path):
    script = tmp_path / "ends.py"
    script.write_text(
        "import time, psutil\n"
        "from pipelab.simulator import Cost\n"
        "from pipelab.widgets import TimelineLab\n"
        "lab = TimelineLab(num_ranks=2, pace=Cost(0.5, 0.5, 0.5))\n"
        "lab.run()\n"
        "while len(found := psutil.Process().children(recursive=True)) < 4: time.sleep(0.01)\n"
        "print(*(process.pid for process in found))\n",
        "utf-8",
    )
    result = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0 and not result.stderr, result.stderr
    pids = [int(pid) for pid in result.stdout.split()]
    assert len(pids) >= 4  # the fork server, its resource tracker, two ranks
    wait_for(lambda: not any(psutil.pid_exists(pid) and alive(pid) for pid in pids))


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# ------------------------------------------------------------------- what a notebook keeps


def trace() -> Trace:
    return simulate(gpipe(2, 3), QUICK)


def test_a_displayed_lab_runs_first_and_leaves_a_picture_with_words(lab):
    data, _ = lab._repr_mimebundle_()
    assert lab.run_number == 1
    assert set(data) == {
        "application/vnd.jupyter.widget-view+json",
        "image/png",
        "text/html",
        "text/plain",
    }
    assert base64.b64decode(data["image/png"]) == lab.picture
    assert re.search(
        r'<img alt="Recorded timeline of [^"]+" src="data:image/png', data["text/html"]
    )
    assert "run this cell to get the controls" in data["text/html"]
    assert "rank 1 " in data["text/plain"]


def test_a_displayed_lab_whose_run_fails_still_shows_its_controls(make):
    lab = make(num_ranks=9)
    data, _ = lab._repr_mimebundle_()
    assert "image/png" not in data and data["text/plain"] == repr(lab)
    assert lab.state == "error"


def test_repr_names_no_address(lab):
    assert repr(lab) == "TimelineLab(2, 3, '1f1b')"


def test_timeline_has_picture_words_and_table():
    data, _ = Timeline(trace())._repr_mimebundle_()
    assert set(data) == {
        "application/vnd.jupyter.widget-view+json",
        "image/png",
        "text/html",
        "text/plain",
    }
    html = data["text/html"]
    assert re.search(r'<img alt="Predicted timeline of [^"]+"', html)
    assert '<th scope="row">1</th>' in html
    assert "rank 1 " in data["text/plain"] == repr(Timeline(trace()))


def test_names_of_a_trace_are_text_not_html():
    event = trace().events[0]
    evil = Trace((event,), "recorded", Setting('"><script>alert(1)</script>', 1, 1))
    html = Timeline(evil)._repr_mimebundle_()[0]["text/html"]
    assert "<script" not in html and '""' not in html


@pytest.mark.parametrize("p", [1, 2, 3, 5, 8])
def test_the_picture_is_small_and_keeps_its_colours(p):
    data = png(simulate(one_f_one_b(p, 16), QUICK))
    assert len(data) < 90_000
    image = Image.open(io.BytesIO(data)).convert("RGB")
    blue = (0, 0x72, 0xB2)
    near = [
        c for _, c in image.getcolors() if max(abs(a - b) for a, b in zip(c, blue, strict=True)) < 9
    ]
    assert near, "the F of Okabe and Ito is gone"


# ------------------------------------------------------------------------------------ words


@pytest.mark.parametrize("build", [gpipe, one_f_one_b, sequential])
@pytest.mark.parametrize(("p", "m"), [(1, 1), (2, 5), (4, 8), (8, 3)])
def test_the_formula_beside_the_measure_is_right(build, p, m):
    predicted = simulate(build(p, m), Cost(1, 1, 1))
    assert formula_of(predicted)[1] == pytest.approx(predicted.bubble_fraction)


def test_errors_name_no_folder_of_this_machine():
    text = error_text(ValueError('bad\n  File "/somewhere/deep/lesson.py", line 3'))
    assert text == 'ValueError: bad\n  File "lesson.py", line 3'


# -------------------------------------------------------------------------------- front end


def test_front_end_is_one_small_file_that_asks_nobody():
    script = (WIDGETS / "lab.js").read_text("utf-8")
    style = (WIDGETS / "lab.css").read_text("utf-8")
    assert len(script) + len(style) < 40_000
    assert not re.search(r"\bimport\b|https?:|//cdn|\beval\b|innerHTML|\bfetch\b", script)
    assert not re.search(r"url\(|@import", style)
    assert max(map(len, script.splitlines())) <= 100


def test_view_and_lab_name_the_same_traits(lab):
    script = (WIDGETS / "lab.js").read_text("utf-8")
    for name in lab.keys:
        if not name.startswith("_") and name not in ("layout", "tooltip", "tabbable"):
            assert name in script, f"lab.js does not use {name}"


PURE = """
import assert from "node:assert/strict";
import { bytesOf, changes, debounce } from "./lab.mjs";

assert.deepEqual(changes({ p: 4, m: 2 }, { p: 4, m: 8 }), { m: 2 });
assert.deepEqual(changes({ p: 4 }, { p: 4 }), {});

assert.equal(bytesOf(null), null);
assert.equal(bytesOf(new DataView(new ArrayBuffer(0))), null);
assert.deepEqual([...bytesOf(new DataView(Uint8Array.of(1, 2, 3).buffer, 1))], [2, 3]);

let calls = 0;
const due = new Map();
const clock = {
  setTimeout: (fire) => { const id = Symbol(); due.set(id, fire); return id; },
  clearTimeout: (id) => due.delete(id),
};
const tick = () => { const all = [...due.values()]; due.clear(); all.forEach((fire) => fire()); };
const later = debounce(() => { calls += 1; }, 100, clock);
later.soon(); later.soon(); later.soon(); tick();
assert.equal(calls, 1, "three changes, one run");
assert.equal(later.flush(), false, "nothing is due");
later.soon();
assert.equal(later.flush(), true); tick();
assert.equal(calls, 2);
later.soon(); later.cancel(); tick();
assert.equal(calls, 2);
"""


def test_pure_functions_of_the_view(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here: the view's functions are tried in the browser only")
    shutil.copy(WIDGETS / "lab.js", tmp_path / "lab.mjs")
    (tmp_path / "pure.mjs").write_text(PURE, "utf-8")
    result = subprocess.run(
        [node, "pure.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr

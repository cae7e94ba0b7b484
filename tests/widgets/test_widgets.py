"""The widgets without a browser: runs, words, traits, and what a stored notebook keeps of them."""

import base64
import copy
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from statistics import median

import psutil
import pytest
import torch
from PIL import Image

from pipelab.action import Kind
from pipelab.engine import Pipeline
from pipelab.engine.launch import fork_server
from pipelab.errors import (
    BatchError,
    PartitionError,
    PipelineClosed,
    RankOutOfMemory,
    ScheduleError,
    TraceError,
)
from pipelab.plots.terminal import source_text
from pipelab.schedules import gpipe, one_f_one_b, sequential
from pipelab.schedules.catalogue import BUILDERS
from pipelab.simulator import Cost, simulate
from pipelab.trace import Setting, Trace
from pipelab.widgets import Timeline, TimelineLab, kept_pipeline, live
from pipelab.widgets.data import packed
from pipelab.widgets.lab_text import choices, curves, error_text, figures, formula_of, lab_error
from pipelab.widgets.live import Recorded
from pipelab.widgets.settings import Settings, part, slowed
from pipelab.widgets.static_picture import png

QUICK = Cost(forward=0.002, backward_input=0.002, backward_weight=0.002)
SLOW = Cost(forward=5.0, backward_input=5.0, backward_weight=5.0)


def ranks() -> list[int]:
    """The processes of all pipelines: the living children of this process's fork server."""
    if fork_server.is_up():  # while it loads torch, it has a child that is no rank
        fork_server.wait_until_up()
    found = []
    for child in psutil.Process().children():
        if child.status() == psutil.STATUS_ZOMBIE:  # a fork server that a test of faults killed
            continue
        if "pipelab-forkserver" in child.cmdline():
            found += [rank.pid for rank in child.children() if alive(rank.pid)]
    return found


def wait_for(condition, seconds=20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
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
    assert "2 ranks, 3 microbatches" in lab.head["alt"]
    difference, ranks_table, _ = lab.head["tables"]
    assert difference["heads"][1:3] == ["predicted", "recorded"]
    assert [row[0] for row in ranks_table["rows"]] == ["rank 0", "rank 1"]
    assert ranks_table["caption"] == source_text(trace)
    assert lab.data == packed(trace.events) and not lab.live
    assert lab.ghost_head["source"] == "predicted"


def test_a_changed_setting_runs_again_and_loss_does_not_depend_on_it(lab):
    lab.wait()
    loss = lab.figures[-1]
    lab.num_microbatches = 5
    lab.schedule = "gpipe"
    trace = lab.wait()
    assert (trace.setting.schedule, trace.setting.microbatches) == ("gpipe", 5)
    assert lab.figures[-1] == loss
    assert lab.head["schedule"] == "gpipe" and lab.run_number > 1
    number = lab.run_number
    lab.num_microbatches = 5
    assert lab.wait() is trace and lab.run_number == number, "an equal value is no change"


def test_what_was_predicted_is_drawn_over_the_runs_of_these_sizes(make):
    lab = make(num_ranks=2, num_microbatches=3, pace=QUICK, over={(2, 3): 0.5})
    lab.wait()
    cross = {"p": 2, "m": 3, "bubble": 0.5}
    assert [cross.items() <= guess.items() for guess in lab.guesses] == [True]
    assert lab.head["guess"]["text"] == "your prediction: 50 % bubble"
    assert "You predicted 50 % bubble" in lab.head["alt"]
    assert lab.head["tables"][0]["caption"] == "Your prediction"
    assert {"name": "bubble, your prediction", "value": "50 %"} in lab.figures
    assert "; you predicted 50 %. Loss" in lab.summary
    data, _ = lab._repr_mimebundle_()
    assert "<p>You predicted 50 % bubble; it was " in data["text/html"]
    assert "You predicted 50 % bubble" in data["text/plain"]
    lab.num_microbatches = 4  # about which nothing was said
    lab.wait()
    assert lab.head["guess"] is None and "predicted 50 %" not in lab.summary
    with pytest.raises(TraceError, match="by ranks and microbatches"):
        TimelineLab(over="30 %")


def test_a_message_with_two_settings_starts_one_run(lab):
    lab.wait()
    lab.set_state({"num_ranks": 3, "num_microbatches": 2})
    assert lab.wait().setting.ranks == 3
    assert lab.run_number == 2


def test_the_next_run_has_the_same_ranks_if_it_can(make):
    lab = make(num_ranks=2, num_microbatches=3, pace=QUICK)
    lab.wait()
    first = ranks()
    lab.set_state({"num_microbatches": 5, "schedule": "gpipe"})
    assert lab.wait().setting.schedule == "gpipe"
    other = make(num_ranks=2, num_microbatches=4, pace=QUICK)
    other.wait()
    assert ranks() == first and len(first) == 2
    for change in ({"num_ranks": 3}, {"overlap": False}, {"budget": "100000000"}):
        before = set(ranks())
        lab.set_state(change)
        lab.wait()
        assert len(ranks()) == 3 and not before & set(ranks()), change
    lab.set_state({"pacing": "off"})  # with another number of threads
    assert not lab.wait().setting.paced and not {*before} & {*ranks()}
    lab.close()
    assert not ranks()


def test_ranks_that_have_run_before_need_no_step_without_a_record(make, monkeypatch):
    steps, step = [], Pipeline.step

    def counted(self, *batch):
        steps.append(self.schedule.num_microbatches)
        return step(self, *batch)

    monkeypatch.setattr(Pipeline, "step", counted)
    lab = make(num_ranks=2, num_microbatches=3, paced=False)  # no other work disturbs it
    lab.wait()
    lab.num_microbatches = 5
    lab.wait()
    assert steps == [3, 3, 5]
    assert float(lab.figures[-1]["value"]) == pytest.approx(loss_after_a_step(), abs=2e-4)


def loss_after_a_step() -> float:
    """Of the lab's model, in one process."""
    model, inputs, targets = live._experiment()
    model, loss = copy.deepcopy(model), torch.nn.functional.cross_entropy
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss(model(inputs), targets).backward()
    optimizer.step()
    return loss(model(inputs), targets).item()


def test_a_closed_widget_that_is_collected_leaves_the_ranks_of_others(make):
    first, other = (make(num_ranks=2, num_microbatches=3, pace=QUICK) for _ in range(2))
    first.wait()
    first.close()
    other.wait()
    waiting = ranks()
    first.__del__()  # as the garbage collector does, at any moment
    assert ranks() == waiting and len(waiting) == 2


def test_ranks_that_nobody_asks_for_end(lab, monkeypatch):
    monkeypatch.setattr(kept_pipeline, "SECONDS", 0.3)
    lab.wait()
    wait_for(lambda: not ranks())
    assert lab.run() is None and lab.wait().source == "recorded"


def test_ranks_that_died_while_they_waited_are_replaced(lab):
    lab.wait()
    dead = ranks()
    os.kill(dead[0], signal.SIGKILL)
    lab.num_microbatches = 4
    assert lab.wait().setting.microbatches == 4
    assert not {*dead} & {*ranks()}


def test_the_browser_asks_for_a_run_and_for_its_end(lab, make):
    first = lab.wait()
    lab.set_state({"run_asked": 1})
    assert lab.wait() is not first and lab.run_number == 2
    slow = make(num_ranks=3, num_microbatches=8, pace=SLOW)
    slow.run()
    wait_for(lambda: len(ranks()) == 3)
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
    lab.pacing = "off"
    trace = lab.wait()
    assert trace.setting.microbatches == 5 and trace.setting.paced == ""
    assert "unpaced" in lab.head["sourceLine"] and not lab.ghost_head
    assert time.monotonic() - began < 60


def test_two_labs_run_one_after_the_other(make):
    labs = [make(num_ranks=2, num_microbatches=4, pace=QUICK) for _ in range(2)]
    most, done = [0], threading.Event()

    def poll() -> None:
        while not done.is_set():
            most[0] = max(most[0], len(ranks()))
            time.sleep(0.002)

    poller = threading.Thread(target=poll)
    poller.start()
    for lab in labs:
        lab.run()
    for lab in labs:
        lab.wait()
    done.set()
    poller.join()
    assert most[0] == 2


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"num_ranks": 17}, PartitionError, "16 layers cannot fill 17 stages"),
        ({"num_ranks": 0}, ScheduleError, "num_ranks is 0"),
        ({"num_microbatches": 257}, BatchError, "256 rows cannot be cut into 257"),
        ({"schedule": "2f2b"}, ScheduleError, "choose sequential, gpipe, 1f1b, eager_1f1b"),
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
        "while len(found := psutil.Process().children(recursive=True)) < 3: time.sleep(0.01)\n"
        "print(*(process.pid for process in found))\n",
        "utf-8",
    )
    result = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0 and not result.stderr, result.stderr
    pids = [int(pid) for pid in result.stdout.split()]
    assert len(pids) >= 3  # the fork server, two ranks
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
        "application/vnd.pipelab.timeline+json",
        "image/png",
        "text/html",
        "text/plain",
    }
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).size[0] > 1000
    assert re.search(
        r'<img alt="[^"]*Recorded timeline of [^"]+" src="data:image/png', data["text/html"]
    )
    assert "run this cell to get the controls" in data["text/html"]
    assert "rank 1 " in data["text/plain"]


def test_a_displayed_lab_whose_run_fails_still_shows_its_controls(make):
    lab = make(num_ranks=17)
    data, _ = lab._repr_mimebundle_()
    assert "image/png" not in data and data["text/plain"] == repr(lab)
    assert lab.state == "error"


def test_a_run_that_takes_long_is_displayed_at_once_while_it_runs(make):
    lab = make(num_ranks=2, num_microbatches=8, pace=SLOW)
    data, _ = lab._repr_mimebundle_()
    assert lab.state == "running" and lab.trace is None
    assert '<img alt="Predicted timeline' in data["text/html"]
    assert "predicted" in data["text/plain"], "nothing is called recorded that was not"


def test_an_interrupt_while_the_first_run_is_shown_ends_it(make):
    """A kernel interrupted in the cell that displays the lab, before it has buttons."""
    lab = make(num_ranks=2, num_microbatches=8, pace=SLOW)
    lab.run()
    lab._run.settings.__dict__["prediction"] = None  # as of an unpaced run: it is waited for
    wait_for(lambda: len(ranks()) == 2)
    interrupt = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        lab._repr_mimebundle_()
    interrupt.join()
    wait_for(lambda: lab.state == "idle")
    assert not ranks()
    lab._pace = QUICK
    lab.num_microbatches = 2
    assert lab.wait().source == "recorded", "the lab can be used again"


def test_repr_names_no_address(lab):
    assert repr(lab) == "TimelineLab(2, 3, '1f1b')"


def test_timeline_has_picture_words_and_table():
    data, _ = Timeline(trace())._repr_mimebundle_()
    assert set(data) == {
        "application/vnd.jupyter.widget-view+json",
        "application/vnd.pipelab.timeline+json",
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
    image = Image.open(io.BytesIO(data)).convert("RGBA")  # it has no background
    blue = (0, 0x72, 0xB2, 0xFF)
    near = [
        c for _, c in image.getcolors() if max(abs(a - b) for a, b in zip(c, blue, strict=True)) < 9
    ]
    assert near, "the F of Okabe and Ito is gone"


# --------------------------------------------------------------------------- what is seen live


def test_bars_appear_while_the_ranks_work(make):
    """What the picture shows during a run is what the trace then holds, a little unsharp."""
    lab = make(num_ranks=2, num_microbatches=4, pace=Cost(0.15, 0.15, 0.15))
    seen = []
    lab.observe(lambda change: seen.append((lab.now, change["new"])), names=["data"])
    trace = lab.wait()
    shown = [(now, data) for now, data in seen if now > 0]
    assert len(shown) >= 4, "2.2 s of work, a picture each tenth of a second"
    counts = [len(data) // 32 for _, data in shown]
    assert counts == sorted(counts) and counts[-1] > counts[0]
    assert lab.data == packed(trace.events), "the recorded trace takes the place of what was seen"


def test_a_run_too_short_to_follow_is_shown_once_when_it_has_ended(make):
    """Each picture of a run in progress takes the processor from its ranks."""
    lab = make(num_ranks=4, num_microbatches=12, schedule="gpipe")  # 0.45 s
    pictures, texts = [], []
    lab.observe(lambda change: pictures.append(change["new"]), names=["data", "live", "now"])
    lab.observe(lambda change: texts.append(change["new"]), names=["summary"])
    trace = lab.wait()
    assert pictures == [packed(trace.events)]
    assert len(texts) == 2, "in progress, done"


def test_a_stopped_run_gives_the_last_picture_back(lab):
    lab.wait()
    whole = lab.data
    lab._pace = SLOW
    lab.num_microbatches = 4
    wait_for(lambda: lab.live)
    assert lab.data != whole and "Live" in lab.head["sentence"]
    lab.stop()
    wait_for(lambda: lab.state == "idle")
    assert lab.data == whole and not lab.live


def test_a_first_run_that_is_stopped_leaves_what_was_seen_and_says_so(make):
    """It went on saying that it was live, and that a record would follow."""
    lab = make(num_ranks=2, num_microbatches=8, pace=SLOW)
    lab.run()
    wait_for(lambda: lab.live)
    lab.stop()
    wait_for(lambda: lab.state == "idle")
    assert lab.data and not lab.live
    assert lab.head["sentence"] == (
        "What was seen of 1F1B on 2 ranks, 8 microbatches until the run was stopped: there is no "
        "record of it."
    )
    assert len(lab.head["totals"]) == 2
    assert all(re.fullmatch(r"began \d+ actions?", words) for words in lab.head["totals"])


def test_the_session_collects_every_finished_run(lab):
    lab.wait()
    lab.schedule = "zero_bubble_v"
    lab.wait()
    assert [run["schedule"] for run in lab.session] == ["1f1b", "zero_bubble_v"]
    wait_for(lambda: lab.curves["name"] == "zero bubble V")
    assert lab.curves["m"][0][0] == 1 and lab.curves["fixed"]["m"] == "p = 2"


def test_a_rank_with_two_stages_does_as_much_in_all(make):
    pace = Cost(forward=0.02, backward_input=0.01, backward_weight=0.01)
    lab = make(num_ranks=2, num_microbatches=4, schedule="interleaved", pace=pace)
    trace = lab.wait()
    for kind in (Kind.F, Kind.B):
        times = [e.end - e.start for e in trace.events if e.kind is kind]
        assert len(times) == 4 * 4  # of half the 20 ms each; a busy machine changes some
        assert median(times) == pytest.approx(0.01, rel=0.3)
    assert lab.head["kinds"][0]["tints"][1:], "the second stage has its tint"


def test_latency_replicas_and_a_budget_reach_the_ranks(make):
    lab = make(num_ranks=2, num_microbatches=2, pace=QUICK)
    lab.set_state({"latency": "50", "replicas": "2", "overlap": False})
    trace = lab.wait()
    assert "latency 1 ms" in trace.setting.paced
    assert (trace.setting.ranks, trace.setting.replicas) == (4, 2)
    assert lab.ghost_head["ranks"] == 4, "the prediction has both replicas, too"
    lab.budget = "3000000"
    with pytest.raises(RankOutOfMemory, match="budget of 3,000,000"):
        lab.wait()
    assert "ran out of memory" in lab.error and lab.state == "error"


def test_shared_work_gets_shorter_with_more_ranks(make):
    """One pace for the whole step: twice the ranks, half of it each."""
    whole = Cost(0.04, 0.04, 0.04, latency=0.003)
    lab = make(num_ranks=1, num_microbatches=2, pace=whole, shared=True, budget=6_000_000)
    assert lab.budget == "6000000" and dict(lab.choices["latency"])["0"] == "3 ms"
    assert lab.choices["pacing"][0][1] == "F 40 ms, B 80 ms in all, shared"
    with pytest.raises(RankOutOfMemory, match="budget of 6,000,000"):
        lab.wait()
    lab.budget = "0"
    assert lab.wait().setting.paced.startswith("F 20 ms, B 40 ms, latency 3 ms")
    lab.num_ranks = 4
    assert lab.wait().setting.paced.startswith("F 5 ms, B 10 ms, latency 3 ms")


# ------------------------------------------------------------------------------------ words


def test_a_slower_pace_keeps_its_proportions():
    slow = slowed(Cost([1.0, 2.0], 1.0, 0.5, latency=0.1), 5, 0.5)
    assert (slow.forward, slow.backward_weight, slow.latency) == ((5.0, 10.0), 2.5, 2.5)


def test_a_part_of_the_work_is_shorter_and_its_message_is_not():
    quarter = part(Cost(1.0, [1.0, 2.0], 0.5, latency=0.1), 4)
    assert (quarter.forward, quarter.backward_input, quarter.latency) == (0.25, (0.25, 0.5), 0.1)
    assert part(QUICK, 0) == QUICK, "no ranks: the schedule says why not"


@pytest.mark.parametrize("forward", [1, 1.0])
def test_a_rank_with_two_stages_gives_each_half_of_its_pace(forward):
    settings = Settings(2, 4, "interleaved", Cost(forward, 1, 1))
    assert settings.cost == Cost(0.5, 0.5, 0.5)


def test_a_list_in_a_pace_speaks_of_stages_a_number_of_a_rank():
    """Each on its own: where one of them is a list, the numbers are shared all the same."""
    settings = Settings(2, 4, "interleaved", Cost([1, 2, 3, 4], 1, 2))
    assert settings.cost == Cost([1, 2, 3, 4], 0.5, 1.0)


def test_a_pace_of_other_stages_is_refused_in_words_before_a_run(make):
    lab = make(num_ranks=2, num_microbatches=2, pace=Cost([0.01] * 3, 0.01, 0.01))
    with pytest.raises(ScheduleError, match="has 3 numbers, the schedule has 2 stages"):
        lab.wait()
    assert "give one number for each stage" in lab.error and lab.state == "error"
    assert "Reset" in lab.error, "of these two, a reader of the page has the button alone"
    assert not ranks()


def test_a_disturbed_run_stands_beside_the_step_that_was_simulated():
    """Lessons 6 and 9 ask for steps: on a busy machine their answers could not be seen."""
    settings = Settings(2, 3, "gpipe", QUICK)
    trace = simulate(gpipe(2, 3), QUICK)

    def names(late: int) -> dict[str, str]:
        setting = replace(trace.setting, paced="F 2 ms, B 4 ms", late=late, timed=12, lost=0.01)
        found = figures(Recorded(Trace(trace.events, "recorded", setting), 2.3), settings)
        return {figure["name"]: figure["value"] for figure in found}

    assert "one step, simulated" not in names(late=0)
    assert names(late=3)["one step, simulated"] == "24 ms"


def test_every_choice_of_the_lab_can_be_built():
    for name, _ in choices(QUICK)["schedule"]:
        found = curves(name, 4, 8)
        assert [m for m, _ in found["m"]] == list(range(BUILDERS[name].fewest(4), 17)), name


@pytest.mark.parametrize("build", [gpipe, one_f_one_b, sequential])
@pytest.mark.parametrize(("p", "m"), [(1, 1), (2, 5), (4, 8), (8, 3)])
def test_the_formula_beside_the_measure_is_right(build, p, m):
    predicted = simulate(build(p, m), Cost(1, 1, 1))
    assert formula_of(predicted)[1] == pytest.approx(predicted.bubble_fraction)


def test_errors_name_no_folder_of_this_machine():
    text = error_text(ValueError('bad\n  File "/somewhere/deep/lesson.py", line 3'))
    assert text == 'ValueError: bad\n  File "lesson.py", line 3'


def test_out_of_memory_advises_what_the_lab_has_a_control_for():
    said = "rank 0 ran out of memory.\nKeep fewer activations: checkpoint=True."
    text = lab_error(RankOutOfMemory(said, rank=0))
    assert text.startswith("RankOutOfMemory: rank 0 ran out of memory.\n")
    assert "checkpoint" not in text and "more microbatches" in text


# -------------------------------------------------------------------------------- front end


def test_view_and_lab_name_the_same_traits(lab):
    for name in lab.keys:
        if not name.startswith("_") and name not in ("layout", "tooltip", "tabbable"):
            assert name in lab._esm, f"the front end does not use {name}"

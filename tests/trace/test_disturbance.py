"""A disturbed run says so first, wherever it is shown; an undisturbed one says nothing."""

import json
from dataclasses import replace

import pytest

from pipelab.errors import TraceError
from pipelab.plots import describe, timeline_text
from pipelab.plots.terminal import bubble_text
from pipelab.schedules import gpipe
from pipelab.simulator import Cost, simulate
from pipelab.trace import Disturbance, Trace, least_disturbed
from pipelab.widgets.data import head


def disturbed(late: int, timed: int = 48, lost: float = 0.1) -> Trace:
    trace = simulate(gpipe(4, 6), Cost(0.01, 0.01, 0.01))
    setting = replace(trace.setting, paced="F 10 ms, B 20 ms", late=late, timed=timed, lost=lost)
    return Trace(trace.events, "recorded", setting)


SAID = "Your machine was busy: 22 of 48 actions took longer than set. Run again."


def test_it_is_said_first_in_every_form():
    trace = disturbed(22)
    assert trace.warning == trace.disturbance.sentence == SAID
    assert timeline_text(trace).startswith(SAID)
    assert describe(trace).startswith(SAID)
    assert head(trace)["disturbed"] == SAID
    assert "22 of 48 actions took longer than set" in trace.source_line
    assert "measured" not in bubble_text(trace) and "this machine's delays" in bubble_text(trace)


def test_a_delay_too_small_to_move_the_bubble_stands_in_the_source_line_alone():
    """1 of 128 actions was said first and loud, at a bubble of 75.3 % where 75.0 is right."""
    small, large = disturbed(1, lost=0.002), disturbed(1, lost=0.006)
    assert disturbed(3, lost=0.002).warning, "many late actions are no measure, however short"
    assert small.duration == pytest.approx(0.27) and small.bubble_fraction == pytest.approx(1 / 3)
    assert "1 of 48 actions took longer than set" in small.source_line
    assert small.warning == head(small)["disturbed"] == "" and "measured" in bubble_text(small)
    assert large.warning == head(large)["disturbed"] == large.disturbance.sentence
    assert "measured" not in bubble_text(large)


def test_an_undisturbed_run_says_nothing():
    trace = disturbed(0, lost=0.0)
    assert not trace.disturbance
    assert trace.warning == trace.disturbance.sentence == head(trace)["disturbed"] == ""
    for text in (timeline_text(trace), describe(trace), trace.source_line):
        assert "busy:" not in text
        assert "longer" not in text


def test_a_pace_that_no_action_can_keep_is_not_blamed_on_the_machine_alone():
    assert "set a slower pace" in Disturbance(48, 48, 1.0).sentence


def test_of_two_steps_the_one_with_less_delay_is_the_less_disturbed():
    one, two = disturbed(1, lost=0.09), disturbed(3, lost=0.01)
    assert least_disturbed([one, two]) is two
    last = max(two.events, key=lambda event: event.end)
    events = tuple(e._replace(end=9.0) if e is last else e for e in two.events)
    longer = Trace(events, "recorded", two.setting)
    assert least_disturbed([longer, two]) is two


def test_it_is_kept_in_a_file_and_a_damaged_one_is_refused(tmp_path):
    path = disturbed(22).save(tmp_path / "trace.json")
    assert Trace.load(path) == disturbed(22)
    data = json.loads(path.read_text())
    for name, value in (("late", 49), ("late", -1), ("lost", -0.5), ("lost", float("inf"))):
        path.write_text(json.dumps(data | {"setting": data["setting"] | {name: value}}))
        with pytest.raises(TraceError, match="damaged"):
            Trace.load(path)
    old = {k: v for k, v in data["setting"].items() if k not in ("timed", "late", "lost")}
    path.write_text(json.dumps(data | {"setting": old}))
    assert not Trace.load(path).disturbance

"""The file for Perfetto: sound by the importer's rules, and true to the trace."""

import copy
import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab.action import Kind
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.trace import Event, Setting, Trace
from pipelab.trace.chrome import chrome_json
from tests.trace.chrome_validator import check_chrome
from tests.traces import recorded_like, two_stages_a_rank

TRACES = {
    "gpipe": simulate(gpipe(4, 8), Cost()),
    "1f1b with latency": simulate(one_f_one_b(4, 8), Cost(latency=0.1)),
    "one rank": recorded_like(one_f_one_b(1, 1)),
    "recorded gpipe": recorded_like(gpipe(3, 5)),
    "recorded 1f1b": recorded_like(one_f_one_b(4, 8)),
    "two stages a rank": recorded_like(two_stages_a_rank()),
    "no events": Trace((), "recorded", Setting(ranks=2)),
    "one event": Trace((Event(0, Kind.F, 0, 0, 0.5, 0.5),), "recorded"),
}


def chrome_text(trace):
    return chrome_json(trace.events, trace.setting, trace.source_line)


def chrome(trace):
    return json.loads(chrome_text(trace))


def slices(data, *names):
    return [e for e in data["traceEvents"] if e["ph"] == "X" and e["name"].split()[0] in names]


@pytest.mark.parametrize("name", TRACES)
def test_is_sound(name):
    assert check_chrome(chrome(TRACES[name])) == []


@pytest.mark.parametrize("name", TRACES)
def test_every_event_is_there_once_at_its_time(name):
    trace = TRACES[name]
    found = sorted(
        (e["pid"] - 1, e["name"], e["ts"], e["dur"], e["args"]["stage"])
        for e in chrome(trace)["traceEvents"]
        if e["ph"] == "X" and e["name"] != "idle"
    )
    wanted = sorted(
        (
            e.rank,
            e.kind.value if e.microbatch is None else f"{e.kind.value} {e.microbatch}",
            round(e.start * 1e6, 3),
            round((round(e.end * 1e9) - round(e.start * 1e9)) / 1e3, 3),
            e.stage,
        )
        for e in trace.events
    )
    assert found == wanted


@pytest.mark.parametrize("name", ["gpipe", "1f1b with latency"])
def test_idle_boxes_add_up_to_the_bubble(name):
    trace = TRACES[name]
    idle = sum(e["dur"] for e in slices(chrome(trace), "idle", "WAIT")) / 1e6
    assert idle == pytest.approx(trace.bubble_fraction * trace.duration * trace.num_ranks)


def test_idle_waiting_and_stepping_never_overlap():
    trace = TRACES["recorded 1f1b"]
    for rank in range(4):
        mine = [e for e in slices(chrome(trace), "idle", "WAIT", "STEP", "F", "B")]
        mine = sorted((e["ts"], e["ts"] + e["dur"]) for e in mine if e["pid"] == rank + 1)
        assert all(a[1] <= b[0] + 1e-6 for a, b in pairwise(mine))


def test_an_arrow_leads_from_each_send_to_the_action_that_used_it():
    data = chrome(TRACES["recorded 1f1b"])
    ends = {}
    for e in data["traceEvents"]:
        if "bind_id" in e:
            ends.setdefault(e["bind_id"], {})["out" if "flow_out" in e else "in"] = e
    assert len(ends) == 2 * 3 * 8  # there and back over three borders, eight microbatches
    for pair in ends.values():
        kind, microbatch = pair["out"]["name"].split()
        step, user = {"SEND_F": (1, "F"), "SEND_B": (-1, "B")}[kind]
        assert pair["in"]["name"] == f"{user} {microbatch}"
        assert pair["in"]["pid"] == pair["out"]["pid"] + step
        assert pair["in"]["args"]["stage"] == pair["out"]["args"]["stage"] + step
        assert pair["in"]["ts"] >= pair["out"]["ts"]


def test_a_send_without_its_user_has_no_arrow():
    trace = TRACES["recorded 1f1b"]
    events = tuple(e for e in trace.events if e.rank == 1)
    data = chrome(Trace(events, "recorded", trace.setting))
    assert check_chrome(data) == []
    assert not [e for e in data["traceEvents"] if "bind_id" in e]


def test_the_counter_is_what_a_rank_holds():
    trace = TRACES["recorded 1f1b"]
    counts = [e for e in chrome(trace)["traceEvents"] if e["ph"] == "C"]
    assert len(counts) == 2 * 8 * 4
    for rank, peak in enumerate(trace.peak_activation_bytes):
        mine = [e["args"]["bytes"] for e in counts if e["pid"] == rank + 1]
        assert max(mine) == peak == 1000 * (rank + 1) * (4 - rank)
        assert mine[-1] == 0


def test_nothing_measured_makes_no_counter():
    assert not [e for e in chrome(TRACES["gpipe"])["traceEvents"] if e["ph"] == "C"]


def test_touching_events_still_touch():
    # 0.1 + 0.2 is not 0.3: in floats these two overlap by a hair.
    events = (Event(0, Kind.F, 0, 0, 0.0, 0.1 + 0.2), Event(0, Kind.B, 0, 0, 0.3, 0.6))
    data = chrome(Trace(events, "recorded"))
    assert check_chrome(data) == []
    assert [(e["tid"], e["ts"]) for e in slices(data, "F", "B")] == [(1, 0.0), (1, 300000.0)]


def test_work_that_overlaps_gets_a_separate_thread():
    events = (
        Event(0, Kind.F, 0, 0, 0.0, 2.0),
        Event(0, Kind.F, 0, 1, 1.0, 3.0),
        Event(0, Kind.F, 0, 2, 1.5, 3.5),
        Event(0, Kind.F, 0, 3, 2.0, 4.0),
    )
    data = chrome(Trace(events, "recorded"))
    assert check_chrome(data) == []
    assert [e["tid"] for e in slices(data, "F")] == [1, 4, 7, 1]


def test_source_and_versions_travel_along():
    trace = TRACES["recorded 1f1b"]
    assert chrome(trace)["otherData"] == {"source": trace.source_line, "torch": "2.13.0"}


def test_to_chrome_writes_the_file(tmp_path):
    trace = TRACES["recorded 1f1b"]
    path = trace.to_chrome(tmp_path / "chrome.json")
    assert path.read_text("utf-8") == chrome_text(trace)


times = st.floats(0, 100)


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from(list(Kind)), st.integers(0, 3), times, times),
        max_size=30,
    )
)
@settings(max_examples=200)
def test_any_heap_of_events_is_sound(rows):
    events = tuple(
        Event(rank, kind, rank, None if kind in ("STEP", "REDUCE_GRAD") else i, *sorted((a, b)), i)
        for rank, kind, i, a, b in rows
    )
    assert check_chrome(chrome(Trace(events, "recorded", Setting(ranks=2)))) == []


# ------------------------------------------------------------- the validator itself can say no


def first(data, **want):
    return next(e for e in data["traceEvents"] if want.items() <= e.items())


def stick_out(data):
    one, other = slices(data, "F")[:2]
    assert one["pid"] == other["pid"]
    one["dur"] = other["ts"] - one["ts"] + other["dur"] / 2


def turn_around(data):
    out = next(e for e in data["traceEvents"] if "flow_out" in e)
    into = next(e for e in data["traceEvents"] if e.get("bind_id") == out["bind_id"] and e != out)
    out["flow_in"], into["flow_out"] = out.pop("flow_out"), into.pop("flow_in")


def same_number_twice(data):
    one, other = [e for e in data["traceEvents"] if "flow_out" in e][:2]
    other["bind_id"] = one["bind_id"]


def forget_an_end(data):
    del next(e for e in data["traceEvents"] if "flow_in" in e)["bind_id"]


def run_backwards(data):
    first(data, ph="C")["ts"] = 1e9


MUTATIONS = {
    "no list": lambda d: d.update(traceEvents={}),
    "a pid of 0": lambda d: first(d, ph="X").update(pid=0),
    "a tid of 0": lambda d: first(d, ph="X").update(tid=0),
    "another phase": lambda d: first(d, ph="X").update(ph="B"),
    "four decimals": lambda d: first(d, ph="X").update(ts=0.1234),
    "a negative time": lambda d: first(d, ph="X").update(dur=-1.0),
    "no time": lambda d: first(d, ph="X").pop("ts"),
    "a token for a name": lambda d: first(d, ph="X").update(name="0F0"),
    "a thread without a name": lambda d: first(d, name="thread_name").update(tid=99),
    "a process without a name": lambda d: d["traceEvents"].remove(first(d, name="process_name")),
    "two names": lambda d: d["traceEvents"].append(first(d, name="process_name")),
    "metadata nobody reads": lambda d: first(d, name="thread_sort_index").update(name="colour"),
    "idle among compute": lambda d: slices(d, "WAIT")[0].update(tid=1),
    "a negative counter": lambda d: first(d, ph="C").update(args={"bytes": -1}),
    "a counter backwards": run_backwards,
    "sticking out": stick_out,
    "an arrow back in time": turn_around,
    "an arrow started twice": same_number_twice,
    "an arrow without an end": forget_an_end,
    "an arrow with no number": lambda d: slices(d, "SEND_F")[0].update(bind_id="one"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_validator_finds(name):
    data = copy.deepcopy(chrome(TRACES["recorded 1f1b"]))
    assert check_chrome(data) == []
    MUTATIONS[name](data)
    assert check_chrome(data) != []


def test_predictions_show_computation_messages_and_waits():
    names = {e["name"].split()[0] for e in chrome(TRACES["gpipe"])["traceEvents"] if e["ph"] == "X"}
    assert names == {"F", "B", "SEND_F", "SEND_B", "WAIT", "idle"}

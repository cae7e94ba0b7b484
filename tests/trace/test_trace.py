"""Trace files: what was saved comes back; anything else is a TraceError, never a surprise."""

import json
import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab.action import PER_STAGE, Kind
from pipelab.errors import TraceError
from pipelab.files import replace_text
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.trace import Event, Memory, Setting, Trace
from tests.traces import recorded_like, two_stages_a_rank

TRACES = {
    "predicted": simulate(gpipe(4, 8), Cost()),
    "recorded": recorded_like(one_f_one_b(4, 8)),
    "two stages a rank": recorded_like(two_stages_a_rank()),
    "empty": Trace((), "recorded", Setting()),
}


@pytest.mark.parametrize("name", TRACES)
def test_what_was_saved_comes_back(name, tmp_path):
    trace = TRACES[name]
    path = trace.save(tmp_path / "trace.json")
    back = Trace.load(path)
    assert back == trace
    assert back.bubble_fraction == trace.bubble_fraction
    assert all(type(e) is Event and type(e.kind) is Kind for e in back.events)
    assert all(type(m) is Memory for m in back.memory)


seconds = st.floats(0, 1e6)
whole = st.integers(0, 2**53)


@st.composite
def events(draw, num_ranks=3):
    kind = draw(st.sampled_from(list(Kind)))
    start, end = sorted((draw(seconds), draw(seconds)))
    microbatch = None if kind in PER_STAGE else draw(st.integers(0, 99))
    if kind is Kind.WAIT:  # without a microbatch it is for all ranks
        microbatch = draw(st.none() | st.just(microbatch))
    rank, stage = draw(st.integers(0, num_ranks - 1)), draw(st.integers(0, 99))
    return Event(rank, kind, stage, microbatch, start, end, draw(whole), draw(st.none() | whole))


@given(st.lists(events(), max_size=20).map(tuple), st.text(max_size=20))
@settings(max_examples=50)
def test_any_trace_comes_back(tmp_path_factory, rows, name):
    trace = Trace(rows, "recorded", Setting(name, ranks=3), (Memory(1, 2, 3),) * 3)
    path = tmp_path_factory.mktemp("trace") / "trace.json"
    assert Trace.load(trace.save(path)) == trace


def test_the_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = replace_text(tmp_path / "file.json", "old")
    monkeypatch.setattr(os, "replace", lambda *names: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        replace_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.json"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("\x00\xff", "cannot be read"),
        ("null", "it is not a trace"),
        ("[]", "it is not a trace"),
        ('{"traceEvents": []}', "it is not a trace"),
        ('{"format": "pipelab-trace", "version": 99}', "version 99, this pipelab reads 1"),
        ('{"format": "pipelab-trace", "version": 1}', "damaged"),
    ],
)
def test_a_file_that_is_no_trace(text, says, tmp_path):
    path = tmp_path / "trace.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(TraceError, match=says) as error:
        Trace.load(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(TraceError, match="cannot be read"):
        Trace.load(tmp_path / "nothing.json")
    with pytest.raises(TraceError, match="cannot be read"):
        Trace.load(tmp_path)


GOOD = [0, "F", 0, 0, 0.0, 1.0, 8, None]


def damaged(place, value):
    """A row that is fine but for one value."""
    return [*GOOD[:place], value, *GOOD[place + 1 :]]


BAD_ROWS = [
    *(damaged(0, value) for value in (-1, 4, 0.0, "0", None, True, 10**30)),
    *(damaged(1, value) for value in ("G", "f", "", None, 0, "STEP")),
    *(damaged(2, value) for value in (-1, 0.5, None, [])),
    *(damaged(3, value) for value in (-1, None, "0", {})),
    *(damaged(4, value) for value in (2.0, math.nan, -math.inf, "0", None, True, 10**400)),
    *(damaged(5, value) for value in (-1.0, math.nan, math.inf, "1", None)),
    *(damaged(6, value) for value in (-8, 0.5, None)),
    *(damaged(7, value) for value in (-1, "1", 0.0)),
    *([], GOOD[:-1], [*GOOD, 0], None, 7, "FFFFFFFF", {"rank": 0}),
]


@pytest.mark.parametrize("row", BAD_ROWS, ids=lambda row: str(row)[:60])
def test_a_damaged_event(row, tmp_path):
    refuses(tmp_path, events=[GOOD, row])


SETTING = {"schedule": "1f1b", "ranks": 4, "microbatches": 8}


def test_clocks_of_several_machines_and_a_file_without_their_error(tmp_path):
    shared, apart = (Setting(**SETTING, clock_error=error) for error in (0.0, 0.000117))
    assert "clocks" not in Trace((), "recorded", shared).source_line
    assert Trace((), "recorded", apart).source_line.endswith(" · clocks ± 0.12 ms")
    path = Trace((), "recorded", apart).save(tmp_path / "trace.json")
    assert Trace.load(path).setting.clock_error == 0.000117
    data = json.loads(path.read_text())
    del data["setting"]["clock_error"]
    path.write_text(json.dumps(data))
    assert Trace.load(path).setting.clock_error == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"events": None},
        {"events": {"0": GOOD}},
        {"source": "guessed"},
        {"source": []},
        {"setting": None},
        {"setting": []},
        {"setting": {**SETTING, "ranks": 0}},
        {"setting": {**SETTING, "ranks": "4"}},
        {"setting": {**SETTING, "ranks": 10**12}},
        {"setting": {**SETTING, "ranks": 4.0}},
        {"setting": {**SETTING, "microbatches": 0}},
        {"setting": {**SETTING, "replicas": 0}},
        {"setting": {**SETTING, "replicas": 2.0}},
        {"setting": {**SETTING, "schedule": 1}},
        {"setting": {**SETTING, "versions": ["torch"]}},
        {"setting": {**SETTING, "colour": "red"}},
        {"setting": {**SETTING, "clock_error": -0.001}},
        {"setting": {**SETTING, "clock_error": float("inf")}},
        {"setting": {**SETTING, "clock_error": "0.1 ms"}},
        {"memory": [[1, 2]] * 3 + [["a", "b", "c"]]},
        {"memory": [[1, 2, 3, 4]]},
        {"memory": [[1, 2, -3]]},
        {"memory": 5},
    ],
    ids=str,
)
def test_a_damaged_file(change, tmp_path):
    refuses(tmp_path, **change)


def refuses(folder, **change):
    """A sound file loads; with this change it is refused, in words."""
    path = folder / "trace.json"
    trace = Trace((Event(*GOOD),), "recorded", Setting(**SETTING), (Memory(),) * 4)
    data = json.loads(trace.save(path).read_text())
    assert Trace.load(path) == trace
    path.write_text(json.dumps({**data, **change}))
    with pytest.raises(TraceError, match="damaged"):
        Trace.load(path)


def test_a_file_of_the_time_before_replicas_loads(tmp_path):
    path = TRACES["recorded"].save(tmp_path / "trace.json")
    data = json.loads(path.read_text())
    del data["setting"]["replicas"]
    path.write_text(json.dumps(data))
    assert Trace.load(path) == TRACES["recorded"]


SAVED = json.dumps(
    json.loads('{"format":"pipelab-trace","version":1,"source":"recorded","memory":[[1,2,3]]}')
    | {"setting": {"schedule": "x", "ranks": 2}, "events": [GOOD, [1, "WAIT", 1, 0, 0, 1, 0, 0]]}
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(st.sampled_from(sorted(json.loads(SAVED))), values)
@settings(max_examples=200)
def test_any_value_anywhere_loads_or_is_refused(tmp_path_factory, key, value):
    loads_or_refuses(tmp_path_factory, json.dumps({**json.loads(SAVED), key: value}))


@given(st.integers(0, len(SAVED)), st.integers(0, 9), st.text(max_size=4))
@settings(max_examples=200)
def test_any_cut_or_insertion_loads_or_is_refused(tmp_path_factory, place, cut, extra):
    loads_or_refuses(tmp_path_factory, SAVED[:place] + extra + SAVED[place + cut :])


def loads_or_refuses(tmp_path_factory, text):
    """Whatever loads is a trace whose numbers can be read."""
    path = tmp_path_factory.mktemp("fuzz") / "trace.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        trace = Trace.load(path)
    except TraceError:
        return
    assert 0 <= trace.bubble_fraction <= 1 + 1e-12
    assert len(trace.peak_activation_bytes) == trace.num_ranks
    assert trace.source_line


def test_source_lines_distinguish_a_record_from_a_prediction():
    recorded, predicted = TRACES["recorded"], TRACES["predicted"]
    assert recorded.source_line == (
        "recorded · 1f1b · 4 ranks · 8 microbatches · gloo/cpu · "
        "paced F 10 ms, B 20 ms, latency 1 ms · 2 cores"
    )
    # nothing ran, so nothing was paced
    assert predicted.source_line == (
        "predicted · gpipe · 4 ranks · 8 microbatches · simulator · F 1000 ms, B 2000 ms"
    )
    two = Trace((), "recorded", Setting("1f1b", ranks=4, microbatches=8, replicas=2))
    assert two.source_line == (
        "recorded · 1f1b · 4 ranks · 8 microbatches · 2 replicas · gloo/cpu · unpaced"
    )
    assert TRACES["empty"].source_line == (
        "recorded · custom · 1 rank · 1 microbatch · gloo/cpu · unpaced"
    )


def test_a_byte_order_mark_in_front_of_a_trace_is_no_fault(tmp_path):
    path = TRACES["recorded"].save(tmp_path / "trace.json")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert Trace.load(path) == TRACES["recorded"]


def test_a_packed_one_is_read_like_a_plain_one(tmp_path):
    trace = simulate(one_f_one_b(2, 3), Cost())
    path = trace.save(tmp_path / "step.json.gz")
    assert path.read_bytes().startswith(b"\x1f\x8b")
    assert Trace.load(path) == trace == Trace.read(path)[0]
    again = trace.save(tmp_path / "again.json.gz")
    assert again.read_bytes() == path.read_bytes(), "git sees no change where there is none"


def test_a_packed_one_that_was_cut_is_refused(tmp_path):
    path = simulate(one_f_one_b(2, 3), Cost()).save(tmp_path / "step.json.gz")
    path.write_bytes(path.read_bytes()[:-20])
    for read in (Trace.load, Trace.read):
        with pytest.raises(TraceError, match=r"step\.json\.gz: "):
            read(path)

"""Bars of a step in progress: from readings of what ranks are in, at any times."""

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab.action import COMPUTE, Action, Kind
from pipelab.engine.protocol.progress import Begun, Progress, Wanted
from pipelab.schedules import one_f_one_b
from pipelab.schedules.catalogue import build
from pipelab.schedules.communication import lower
from pipelab.simulator import Cost, simulate
from pipelab.widgets.live_bars import LiveBars


def at_work(schedule, cost):
    """What the shared page says of each rank at any time.

    Of a step that goes as the simulator predicts it, with its waits; sends take no time.
    """
    trace = simulate(schedule, cost)
    rows = [[] for _ in schedule.ranks]
    for e in trace.events:
        if e.kind in COMPUTE | {Kind.WAIT}:
            rows[e.rank].append((e.start, Action(e.stage, e.kind, e.microbatch)))
    for row in rows:
        row.sort(key=lambda entry: entry[0])

    def read_at(now):
        found = []
        for row in rows:
            begun = [entry for entry in row if entry[0] <= now]
            start, action = begun[-1] if begun else (-3.0, Action(0, Kind.STEP))
            found.append(Begun(5 + len(begun), action, start))
        return found

    return trace, read_at


@pytest.mark.parametrize("lead", [0.5, 2.5])  # actions take 1
def test_what_a_paced_rank_prepares_ahead_is_shown_when_its_device_is_there(lead):
    schedule = build("gpipe", 3, 4)
    trace, read_at = at_work(schedule, Cost())
    clock = [-lead - 1]
    live = LiveBars(lambda: read_at(clock[0] + lead), schedule)
    clock[0] = -lead + 0.01
    live.update(clock[0])
    assert live.bars(clock[0])[1] == 0.0, "it has not begun"
    right = {(e.rank, e.kind, e.microbatch): e for e in trace.events if e.kind in COMPUTE}
    while clock[0] < trace.duration:
        clock[0] += 0.25
        live.update(clock[0])
        bars, now = live.bars(clock[0])
        assert now == max(0.0, clock[0])
        for bar in bars:
            assert bar.start <= now and bar.end <= now
            assert bar.start == pytest.approx(right[bar[0], bar[1], bar[3]].start, abs=0.26)
    assert len(bars) == len(right)


@settings(max_examples=25)
@given(
    st.sampled_from(["gpipe", "1f1b", "interleaved", "zero_bubble_h1", "zero_bubble_v"]),
    st.integers(2, 4),
    st.sampled_from([0.07, 0.3, 0.9]),  # actions take 1: from frequent readings to just enough
)
def test_bars_start_when_the_rank_says_and_are_exact_to_one_reading_in_all_else(name, p, pause):
    schedule = build(name, p, 2 * p)
    trace, read_at = at_work(schedule, Cost())
    clock = [-1.0]
    live = LiveBars(lambda: read_at(clock[0]), schedule)
    for k in itertools.count():
        clock[0] = k * pause
        if clock[0] > trace.duration:
            break
        live.update(clock[0])
        bars, now = live.bars(clock[0])
        rows = {rank: [b for b in bars if b.rank == rank] for rank in range(p)}
        for rank, row in rows.items():
            computing = [e for e in trace.events if e.rank == rank and e.kind in COMPUTE]
            assert len(row) <= len(computing)
            for bar, e in zip(row, computing, strict=False):
                assert (bar.stage, bar.kind, bar.microbatch) == (e.stage, e.kind, e.microbatch)
                assert bar.start <= bar.end <= now + 1e-9
                assert bar.start == pytest.approx(e.start, abs=1e-9), "all are seen: they take 1"
                assert bar.end <= max(e.end, now) + 1e-9
            begun = [e for e in computing if e.start <= now]
            assert len(row) >= len(begun) - 1, "all that has begun is seen, but the last"
            assert all(a.end <= b.start + 1e-9 for a, b in itertools.pairwise(row))


def test_the_step_before_is_not_seen():
    live = LiveBars(lambda: [Begun(7, Action(0, Kind.STEP), 0.5)] * 2, one_f_one_b(2, 2))
    live.update(1.0)
    assert live.bars(2.0) == ((), 0.0)


def test_sends_and_the_optimizer_end_an_action():
    schedule = one_f_one_b(2, 1)
    lowered = lower(schedule)
    said = [Begun(), Begun()]
    live = LiveBars(lambda: said, schedule)
    for clock, action in enumerate(lowered.ranks[0]):
        said[0] = Begun(clock + 1, action, clock - 0.5)
        live.update(float(clock))
    bars, _ = live.bars(10.0)
    assert [(b.kind, b.microbatch) for b in bars] == [(Kind.F, 0), (Kind.B, 0)]
    assert bars[-1].end < 10.0


def test_replicas_are_shown_too():
    said = [Begun()] * 4
    live = LiveBars(lambda: said, one_f_one_b(2, 2), replicas=2)
    said[2] = Begun(1, Action(0, Kind.F, 0), 7.0)
    live.update(7.25)
    bars, now = live.bars(7.5)
    assert [(b.rank, b.end) for b in bars] == [(2, 0.5)] and now == 0.5


def test_actions_that_nobody_saw_share_the_time_since_the_reading_before():
    said = [Begun()]
    live = LiveBars(lambda: said, one_f_one_b(1, 2))  # F0 B0 F1 B1
    said[0] = Begun(1, Action(0, Kind.F, 0), 10.0)
    live.update(13.0)
    said[0] = Begun(3, Action(0, Kind.F, 1), 14.0)
    live.update(14.5)
    bars, _ = live.bars(15.0)
    assert [(b.start, b.end) for b in bars] == [(0.0, 3.0), (3.0, 4.0), (4.0, 5.0)]


def test_a_page_without_ranks_ends_nothing_and_begins_nothing():
    said = [Begun()]
    live = LiveBars(lambda: said, one_f_one_b(1, 1))
    said[0] = Begun(1, Action(0, Kind.F, 0), 1.0)
    live.update(1.0)
    said.clear()  # the pipeline was closed
    live.update(2.0)
    assert [(b.start, b.end) for b in live.bars(3.0)[0]] == [(0.0, 2.0)]


def test_the_page_says_what_each_rank_began_and_when(tmp_path):
    page, rank = Progress(tmp_path, 2), Progress(tmp_path, 2)
    assert page.begun() == (Begun(), Begun())
    before = time.monotonic()
    rank.write(1, Action(1, Kind.WAIT, 3), Wanted(Action(0, Kind.SEND_F, 3), 0))
    begun = page.begun()[1]
    assert begun == page.read(1)
    assert (begun.number, begun.action) == (1, Action(1, Kind.WAIT, 3))
    assert before <= begun.since <= time.monotonic()
    assert begun.wanted == Wanted(Action(0, Kind.SEND_F, 3), 0) and page.read(0).wanted is None
    page.close()
    assert page.begun() == ()
    rank.close()

"""Bars of a step that goes on: from looks at what ranks are in, whenever they come."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelab.action import COMPUTE, Action, Kind
from pipelab.schedules import one_f_one_b
from pipelab.schedules.catalogue import build
from pipelab.schedules.communication import lower
from pipelab.simulator import Cost, simulate
from pipelab.widgets.watch import Watch


def at_work(schedule, cost):
    """What each rank's page says at any time: (how many actions begun, the last of them).

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
        def read(rank):
            begun = [action for start, action in rows[rank] if start <= now]
            return (5 + len(begun), begun[-1]) if begun else (5, Action(0, Kind.STEP))

        return read

    return trace, read_at


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(["gpipe", "1f1b", "interleaved", "zero_bubble_h1", "zero_bubble_v"]),
    st.integers(2, 4),
    st.sampled_from([0.07, 0.3, 0.9]),  # actions take 1: from a sharp look to one just in time
)
def test_bars_are_right_to_the_time_between_two_looks(name, p, pause):
    schedule = build(name, p, 2 * p)
    trace, read_at = at_work(schedule, Cost())
    clock = [-1.0]
    watch = Watch(lambda rank: read_at(clock[0])(rank), schedule)
    for k in itertools.count():
        clock[0] = k * pause
        if clock[0] > trace.duration:
            break
        watch.look(clock[0])
        bars, now = watch.bars(clock[0])
        rows = {rank: [b for b in bars if b.rank == rank] for rank in range(p)}
        for rank, row in rows.items():
            computing = [e for e in trace.events if e.rank == rank and e.kind in COMPUTE]
            assert len(row) <= len(computing)
            for bar, e in zip(row, computing, strict=False):
                assert (bar.stage, bar.kind, bar.microbatch) == (e.stage, e.kind, e.microbatch)
                assert bar.start <= bar.end <= now + 1e-9
                assert bar.start == pytest.approx(e.start, abs=2 * pause + 1e-9)
            begun = [e for e in computing if e.start <= now]
            assert len(row) >= len(begun) - 1, "all that has begun is seen, but for the last look"
            assert all(a.end <= b.start + 1e-9 for a, b in itertools.pairwise(row))


def test_the_step_before_is_not_seen():
    watch = Watch(lambda rank: (7, Action(0, Kind.STEP)), one_f_one_b(2, 2))
    watch.look(1.0)
    assert watch.bars(2.0) == ((), 0.0)


def test_sends_and_the_optimizer_end_an_action():
    schedule = one_f_one_b(2, 1)
    lowered = lower(schedule)
    said = {0: (0, None), 1: (0, None)}
    watch = Watch(said.get, schedule)
    for clock, action in enumerate(lowered.ranks[0]):
        said[0] = (clock + 1, action)
        watch.look(float(clock))
    bars, _ = watch.bars(10.0)
    assert [(b.kind, b.microbatch) for b in bars] == [(Kind.F, 0), (Kind.B, 0)]
    assert bars[-1].end < 10.0


def test_replicas_are_watched_too():
    said = dict.fromkeys(range(4), (0, None))
    watch = Watch(said.get, one_f_one_b(2, 2), replicas=2)
    said[2] = (1, Action(0, Kind.F, 0))
    watch.look(0.0)
    bars, now = watch.bars(0.5)
    assert [(b.rank, b.end) for b in bars] == [(2, 0.5)] and now == 0.5

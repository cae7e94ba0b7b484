"""Building blocks: one microbatch's pattern makes the schedule, its peak and its collisions."""

import random
import re

import pytest

from pipelab.errors import ScheduleError
from pipelab.schedules import (
    from_block,
    interleaved,
    one_f_one_b,
    v_half,
    v_min,
    validate,
    zero_bubble_h1,
    zero_bubble_v,
)
from pipelab.schedules.blocks import (
    lifespan_peaks,
    v_half_block,
    v_min_block,
    zero_bubble_v_block,
)
from pipelab.schedules.counts import peak_activations
from pipelab.schedules.ends import fill_ends
from pipelab.simulator import Cost, simulate

BLOCKS = {"v_min": v_min_block, "v_half": v_half_block, "zero_bubble_v": zero_bubble_v_block}
EVEN, UNEVEN = Cost(0.5, 0.5, 0.5), Cost(0.5, 0.6, 0.4)  # of a chunk: a rank holds two


@pytest.mark.parametrize(
    ("build", "cost", "p", "m", "makespan", "bubble"),
    [
        (v_min, EVEN, 4, 8, 29.5, 18.6),
        (v_half, EVEN, 4, 8, 30.0, 20.0),
        (v_min, UNEVEN, 4, 8, 34.4, 30.2),
        (v_half, UNEVEN, 4, 8, 31.1, 22.8),
        (v_min, UNEVEN, 4, 16, 63.2, 24.1),
    ],
)
def test_the_makespans_of_the_table(build, cost, p, m, makespan, bubble):
    trace = simulate(build(p, m), cost)
    assert trace.duration == pytest.approx(makespan)
    assert 100 * trace.bubble_fraction == pytest.approx(bubble, abs=0.051)


@pytest.mark.parametrize("p", range(1, 10))
def test_every_size_runs_and_holds_what_the_paper_says(p):
    for m in (1, 2, p, 2 * p + 1, 4 * p):
        for build, peak in ((v_min, (p + 4) // 3), (v_half, (p + 2) // 2)):
            schedule = build(p, m)
            validate(schedule)
            assert max(peak_activations(schedule)) == min(m, peak)


@pytest.mark.parametrize("p", range(1, 9))
@pytest.mark.parametrize("name", BLOCKS)
def test_the_peak_is_the_sum_of_the_lifespans_over_the_period(name, p):
    pattern, period = BLOCKS[name](p)
    peaks = peak_activations(from_block(pattern, period, p, 6 * p + 10))
    for rank, average in enumerate(lifespan_peaks(pattern, period, p)):
        assert average <= peaks[rank] < average + 1, f"rank {rank}"


def test_v_min_has_no_slack_and_the_others_keep_their_rhythm():
    def added(build, m):  # seconds above the ideal
        return simulate(build(4, m), UNEVEN).duration - 3 * m

    assert added(v_min, 16) > added(v_min, 8) + 1
    assert added(v_half, 16) == pytest.approx(added(v_half, 8))
    assert added(zero_bubble_v, 16) == pytest.approx(added(zero_bubble_v, 8))


@pytest.mark.parametrize("p", range(1, 8))
def test_zero_bubble_v_comes_from_its_block_too(p):
    block = zero_bubble_v_block(p)
    for m in (1, p, 2 * p - 1, 2 * p, 3 * p + 1):
        ours, written = from_block(*block, p, m, fill=True), zero_bubble_v(p, m)
        validate(ours)
        assert peak_activations(ours) == peak_activations(written)
        for cost in (EVEN, UNEVEN):
            got, want = simulate(ours, cost).duration, simulate(written, cost).duration
            assert got == pytest.approx(want) if m >= 2 * p - 1 else got <= want + 1e-9


@pytest.mark.parametrize("name", BLOCKS)
def test_filled_ends_hold_no_more_and_take_no_longer(name):
    for p in (2, 3, 4, 6):
        squeezed = from_block(*BLOCKS[name](p), p, 3 * p)
        filled = fill_ends(squeezed)
        validate(filled)
        assert peak_activations(filled) == peak_activations(squeezed)
        assert simulate(filled, EVEN).duration <= simulate(squeezed, EVEN).duration


@pytest.mark.parametrize(("p", "m"), [(1, 2), (2, 5), (4, 8), (5, 3)])
def test_1f1b_is_a_block(p, m):
    def pattern(rank):
        return {f"{rank}F0": rank, f"{rank}B0": 3 * p - 2 - 2 * rank}

    assert from_block(pattern, 3, p, m).ranks == one_f_one_b(p, m).ranks


def tokens(row):
    return " ".join(action.token for action in row)


def test_a_w_that_is_named_stays_in_its_slot():
    block = [{"0F0": 0, "0I0": 4, "0W0": 8}, {"1F0": 1, "1I0": 2}]
    rows = from_block(block, 3, 2, 3).ranks
    assert [a.token for a in rows[0]] == [
        "0F0",
        "0F1",
        "0I0",
        "0F2",
        "0I1",
        "0W0",
        "0I2",
        "0W1",
        "0W2",
    ]
    assert [a.token for a in rows[1]] == [
        "1F0",
        "1I0",
        "1W0",
        "1F1",
        "1I1",
        "1W1",
        "1F2",
        "1I2",
        "1W2",
    ]


def refused(pattern, period=3, p=2, m=4):
    with pytest.raises(ScheduleError) as caught:
        from_block(pattern, period, p, m)
    return str(caught.value)


def test_a_refusal_names_the_two_actions_that_collide():
    text = refused([{"0F0": 0, "0B0": 5}, {"1F0": 1, "1B0": 2}])
    assert text.startswith("rank 0: 0B0 and 0F2 collide in slot 6:\n0F0 starts in slot 0, ")
    assert ">0F0<>0B0<" in text
    text = refused([{"0F0": 0, "0B0": 7}, {"1F0": 1, "1I0": 4, "1W0": 5}])
    assert text.startswith("rank 1: 1I0 and 1F1 collide in slot 4")
    assert "is free: 0" in text


@pytest.mark.parametrize(
    ("pattern", "period", "text"),
    [
        (
            [{"0F0": 0, "0B0": 4}, {"1F0": 0, "1B0": 2}],
            3,
            "1F0 of rank 1 starts in slot 0, but",
        ),
        ([{"0F0": 0, "0B0": 3}, {"1F0": 1, "1B0": 2}], 3, "start 0B0 in slot 4 or later"),
        ([{"0F0": 0, "0B0": 4}, {"1F0": 1, "1B0": 2}], 2, "rank 0: one microbatch takes 3 slots"),
        ([{"0F0": 0, "0B0": 4}], 3, "the pattern has 1 rows, but num_ranks is 2"),
        ([{"0F0": 0, "0B0": 4}, {"1F0": 1}], 3, "stage 1, microbatch 0: found 1 F, 0 B"),
        ([{"0F0": 0, "0B0": 4}, {"2F0": 1, "2B0": 2}], 3, "stage 1 is on no rank"),
        ([{"0F0": 0, "0B0": 4}, {"1F1": 1, "1B0": 2}], 3, "a pattern is that of microbatch 0"),
        ([{"0F0": 0, "0B0": 4}, {"1F0": 1.5, "1B0": 4}], 3, "a slot is a whole number"),
        ([{"0F0": 0, "0B0": 4}, {"0F0": 1, "1B0": 2}], 3, "stage 0 runs on rank 0"),
        ([{"0F0": 0, "0B0": 4}, {"x": 1}], 3, "'x' is no token"),
    ],
)
def test_other_refusals_say_what_is_wrong(pattern, period, text):
    assert text in refused(pattern, period)


def test_a_block_may_have_any_placement():
    """Two stages a rank in a loop, and one stage a rank with the backward in two halves."""
    loop = [
        {"0F0": 0, "2F0": 3, "2B0": 7, "0B0": 16},
        {"1F0": 1, "3F0": 4, "3B0": 5, "1B0": 14},
    ]
    schedule = from_block(loop, 6, 2, 8)
    validate(schedule)
    assert schedule.stages_of(0) == (0, 2)
    assert simulate(schedule, EVEN).duration >= simulate(interleaved(2, 8), EVEN).duration
    halves = [{"0F0": 0, "0I0": 4}, {"1F0": 1, "1I0": 2}]
    ours = from_block(halves, 3, 2, 6)
    assert simulate(ours, Cost()).duration == simulate(zero_bubble_h1(2, 6), Cost()).duration + 1
    assert peak_activations(ours) == (2, 1)  # ZB-H1 holds 2 on both


def random_block(rng):
    """One microbatch's pattern on a random placement, each action in a slot that is free."""
    p, v = rng.randint(1, 5), rng.randint(1, 3)
    period = 3 * v + rng.choice((0, 0, 1, 2))
    homes = rng.sample([rank for rank in range(p) for _ in range(v)], p * v)
    rows, taken, now = [{} for _ in range(p)], [set() for _ in range(p)], 0
    forward = [(stage, "F", 1) for stage in range(p * v)]
    kinds = [rng.choice((("I", 1), ("B", 2))) for _ in homes]
    backward = [(stage, *kinds[stage]) for stage in reversed(range(p * v))]
    for stage, kind, long in (*forward, *backward):
        rank = homes[stage]
        tries = ((at, {(at + i) % period for i in range(long)}) for at in range(now, now + period))
        start, slots = next((t for t in tries if not t[1] & taken[rank]), (None, set()))
        if start is None:  # a B found no two free slots in a row
            return None
        taken[rank] |= slots
        rows[rank][f"{stage}{kind}0"] = start
        now = start + long + rng.choice((0, 0, 0, 1, 3))
    return rows, period


def test_random_blocks_run_and_hold_the_sum_of_their_lifespans():
    rng, found = random.Random(4), 0
    for _ in range(60):
        if (block := random_block(rng)) is None:
            continue
        rows, period = block
        m = 10 + 4 * max(slot for row in rows for slot in row.values()) // period
        schedule = from_block(rows, period, len(rows), m)
        validate(schedule)
        found += 1
        averages = lifespan_peaks(rows, period, len(rows))
        for average, peak in zip(averages, peak_activations(schedule), strict=True):
            assert average - 1e-9 <= peak < average + 1
    assert found > 40


def test_a_random_block_with_one_action_moved_runs_or_names_two():
    rng, refusals = random.Random(6), 0
    for _ in range(60):
        if (block := random_block(rng)) is None:
            continue
        rows, period = block
        row = rng.choice(rows)
        moved = rng.choice([*row])
        row[moved] += rng.choice((1, 2, period - 1))
        try:
            validate(from_block(rows, period, len(rows), 8))
        except ScheduleError as error:
            refusals += 1
            said = str(error).splitlines()[0]
            assert len(re.findall(r"\d+[FBI]\d+", said)) >= 2, said
    assert refusals > 20

import pytest

from pipelab.action import Action, Kind, produces
from pipelab.errors import DeadlockError, ScheduleError
from pipelab.schedules import Schedule, gpipe, one_f_one_b, sequential, validate
from pipelab.schedules.builders import eager_one_f_one_b
from pipelab.schedules.communication import lower, message_needs
from pipelab.schedules.walk import walk

BUILDERS = [sequential, gpipe, one_f_one_b, eager_one_f_one_b]
SIZES = [(p, m) for p in (1, 2, 3, 4, 7) for m in (1, 2, 3, 8, 13)]


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_every_size_is_valid_and_complete(build, p, m):
    schedule = build(p, m)
    validate(schedule)
    assert (schedule.num_ranks, schedule.num_stages, schedule.num_microbatches) == (p, p, m)
    assert sum(map(len, schedule.ranks)) == 2 * p * m


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_backwards_run_in_microbatch_order(build, p, m):
    # or gradients would add up in another order than in one process, and differ in the last bit
    for row in build(p, m).ranks:
        assert [a.microbatch for a in row if a.kind is Kind.B] == list(range(m))


@pytest.mark.parametrize(("p", "m"), SIZES)
def test_1f1b_holds_min_m_p_minus_r_microbatches(p, m):
    for rank, row in enumerate(one_f_one_b(p, m).ranks):
        held, peak = 0, 0
        for action in row:
            held += 1 if action.kind is Kind.F else -1
            peak = max(peak, held)
        assert peak == min(m, p - rank)


@pytest.mark.parametrize(("p", "m"), SIZES)
def test_eager_1f1b_holds_twice_as_many_but_one_and_takes_no_longer(p, m):
    from pipelab.schedules.counts import peak_activations
    from pipelab.simulator import Cost, simulate

    eager = eager_one_f_one_b(p, m)
    assert peak_activations(eager) == tuple(min(m, 2 * (p - r) - 1) for r in range(p))
    for cost in (Cost(), Cost(1, 1, 2), Cost(2, 1, 0)):
        both = [simulate(schedule, cost).duration for schedule in (one_f_one_b(p, m), eager)]
        assert both[0] == both[1]


def test_1f1b_of_the_paper():
    # the shape of figure 4 of arXiv 2104.04473, upper half, at p = 4, here with m = 4
    assert one_f_one_b(4, 4).to_csv().splitlines() == [
        "0F0,0F1,0F2,0F3,0B0,0B1,0B2,0B3",
        "1F0,1F1,1F2,1B0,1F3,1B1,1B2,1B3",
        "2F0,2F1,2B0,2F2,2B1,2F3,2B2,2B3",
        "3F0,3B0,3F1,3B1,3F2,3B2,3F3,3B3",
    ]


@pytest.mark.parametrize("build", BUILDERS)
def test_sizes_below_one_are_refused_with_the_number(build):
    with pytest.raises(ScheduleError, match="num_microbatches is 0"):
        build(2, 0)
    with pytest.raises(ScheduleError, match="num_ranks is -1"):
        build(-1, 2)


def test_csv_there_and_back():
    schedule = one_f_one_b(3, 5)
    assert Schedule.from_csv(schedule.to_csv()).ranks == schedule.ranks
    assert Schedule.from_csv("0F0, ,0B0\n").to_csv() == "0F0,0B0\n"  # torch writes idle slots so


@pytest.mark.parametrize("token", ["", "F0", "2F", "2F0 ", "2F00", "2X0", "-1F0", "2F0x", "2STEP1"])
def test_rubbish_is_no_token(token):
    with pytest.raises(ScheduleError, match="no token"):
        Action.parse(token)


@pytest.mark.parametrize("token", ["2F0", "10B12", "0SEND_F3", "1RECV_B0", "3STEP", "0REDUCE_GRAD"])
def test_tokens_there_and_back(token):
    assert Action.parse(token).token == token


def rows(*texts):
    return Schedule.from_tokens(text.split() for text in texts)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (rows("0F0 0B0", "0F1 0B1"), r"stage 0 runs on rank 0 \(0F0\) and on rank 1 \(0F1\)"),
        (rows("0F0"), "found 1 F, 0 B, 0 I, 0 W; want one F and one B"),
        (rows("0F0 0B0 0B0"), "found 1 F, 2 B"),
        (rows("0F0 0I0"), "found 1 F, 0 B, 1 I, 0 W"),
        (rows("0B0 0F0"), r"rank 0 runs 0B0 \(place 1\) before 0F0"),
        (rows("0F0 0W0 0I0"), r"rank 0 runs 0W0 \(place 2\) before 0I0"),
        (rows("0F0 0B0", "2F0 2B0"), "stage 1 is on no rank"),
        (rows("0F0 0B0", ""), "rank 1 has no actions"),
        (Schedule(()), "no ranks"),
    ],
)
def test_broken_schedules_are_refused_in_words(schedule, message):
    with pytest.raises(ScheduleError, match=message):
        validate(schedule)


def test_a_deadlock_says_who_waits_for_whom():
    crossed = rows("0F0 0B0 0F1 0B1", "1F1 1B1 1F0 1B0")
    with pytest.raises(DeadlockError) as caught:
        validate(crossed)
    assert "rank 0 cannot start 0B0: it waits for 1B0 of rank 1" in str(caught.value)
    assert "rank 1 cannot start 1F1: it waits for 0F1 of rank 0" in str(caught.value)
    print(crossed)  # what cannot run must still print


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_lowered_schedules_pass_under_rendezvous(build, p, m):
    schedule = build(p, m)
    lowered = lower(schedule)
    starts = walk(lowered.ranks, message_needs(schedule, rendezvous=True))
    assert list(map(len, starts)) == list(map(len, lowered.ranks))
    sends = [a for row in lowered.ranks for a in row if a.kind in (Kind.SEND_F, Kind.SEND_B)]
    assert len(sends) == len(set(sends)) == 2 * (p - 1) * m


@pytest.mark.parametrize("build", [gpipe, one_f_one_b])
@pytest.mark.parametrize(("p", "m"), [(2, 4), (4, 8), (4, 3)])
def test_receives_are_posted_one_action_ahead_within_a_window(build, p, m):
    for rank, row in enumerate(lower(build(p, m)).ranks):
        open_now, most = 0, 0
        for i, action in enumerate(row):
            if action.kind in (Kind.RECV_F, Kind.RECV_B):
                open_now += 1
                use = Kind.F if action.kind is Kind.RECV_F else Kind.B
                assert action._replace(kind=use) in row[i:]
            if action._replace(kind=Kind.RECV_F) in row and action.kind is Kind.F:
                open_now -= 1
            if action._replace(kind=Kind.RECV_B) in row and action.kind is Kind.B:
                open_now -= 1
            most = max(most, open_now)
        assert open_now == 0
        assert most <= min(m, p - rank) + 2, f"rank {rank} opens {most} buffers"


def test_send_receive_compute_order_deadlocks_only_without_buffers():
    # both ranks send before they post: fine with buffered sends, a hang with rendezvous sends
    compute = one_f_one_b(2, 2)
    text = [
        "0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B0 0B0 0RECV_B1 0B1",
        "1RECV_F0 1F0 1B0 1SEND_B0 1RECV_F1 1F1 1B1 1SEND_B1",
    ]
    lowered = rows(*text)
    starts = walk(lowered.ranks, message_needs(compute, rendezvous=False))
    assert list(map(len, starts)) == list(map(len, lowered.ranks))
    validate(lowered, rendezvous=False)
    with pytest.raises(DeadlockError, match="rank 1 cannot start 1SEND_B0: it waits for 0RECV_B0"):
        validate(lowered, rendezvous=True)


def test_a_full_backward_produces_what_its_first_half_does():
    assert produces(Action.parse("1B0")) == Action.parse("1I0")

"""What an order of actions is called, whatever its name says."""

import random

import pytest

from pipelab.action import Kind
from pipelab.cli.main import main
from pipelab.errors import ScheduleError
from pipelab.schedules import (
    Schedule,
    dual_pipe_v,
    gpipe,
    interleaved,
    one_f_one_b,
    recognise,
    seq1f1b,
    v_half,
    validate,
    zero_bubble_h1,
)
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.schedules.communication import lower
from pipelab.simulator import Cost, simulate
from pipelab.trace import Event, Setting, Trace
from pipelab.widgets.editor import ScheduleEditor

SIZES = [(2, 4), (4, 3), (3, 8)]


@pytest.mark.parametrize(("p", "m"), SIZES)
@pytest.mark.parametrize("name", BUILDERS)
def test_every_builder_is_recognised_without_its_name(name, p, m):
    schedule = build(name, p, max(m, BUILDERS[name].fewest(p)))
    nameless = Schedule(schedule.ranks, overlaps=schedule.overlaps)
    for what in (nameless, lower(nameless), simulate(schedule, Cost(1.0, 1.1, 0.7, 0.3))):
        found = recognise(what)
        assert name in (found.name, *found.also) and not found.is_own
        assert not found.difference and not found.moved
    assert recognise(schedule).name == name  # its own name comes first where several fit


@pytest.mark.parametrize("v", [2, 3, 4])
def test_v_is_said_where_it_can_be_chosen(v):
    assert str(recognise(interleaved(4, 8, v))) == f"interleaved 1F1B, v = {v}"


def test_a_name_proves_nothing():
    assert str(recognise(Schedule(gpipe(4, 8).ranks, "1f1b"))) == "GPipe"
    assert str(recognise(Schedule(interleaved(4, 8, 1).ranks, "interleaved"))) == "eager 1F1B"


def edited(schedule, rank, edit):
    rows = [list(row) for row in schedule.ranks]
    edit(rows[rank])
    return Schedule(tuple(map(tuple, rows)))


@pytest.mark.parametrize(("p", "m"), [(3, 6), (4, 8), (6, 9)])
def test_two_swapped_are_named(p, m):
    rng = random.Random(p)
    for build_one in (gpipe, one_f_one_b, zero_bubble_h1):
        schedule = build_one(p, m)
        rank = rng.randrange(p)
        row = schedule.ranks[rank]
        i, j = sorted(rng.sample(range(len(row)), 2))

        def swap(row, i=i, j=j):
            row[i], row[j] = row[j], row[i]

        found = recognise(edited(schedule, rank, swap))
        title = BUILDERS[schedule.name].title
        assert str(found) == (
            f"your own: {title} with two swapped: {row[i].token} and {row[j].token} on rank {rank}"
        )


def test_what_is_moved_is_counted():
    found = recognise(edited(one_f_one_b(4, 8), 0, lambda row: row.insert(0, row.pop(5))))
    assert (found.name, found.moved) == ("1f1b", 1)
    assert str(found) == "your own: 1F1B with 1 of 64 actions moved"


def test_what_is_like_nothing_says_so():
    backwards_first = [["0F0", "0B0", "0F1", "0B1"], ["1F0", "1F1", "1B0", "1B1"]]
    assert recognise(Schedule.from_tokens(backwards_first)).is_own
    rng = random.Random(1)
    rows = [rng.sample(row, len(row)) for row in gpipe(4, 8).ranks]
    found = recognise(Schedule(tuple(map(tuple, rows))))
    assert found.is_own and not found.is_near
    assert str(found).startswith("your own; nearest: ")
    assert (
        str(recognise(Schedule.from_tokens([["0F0", "2F0"], ["1F0", "3F0", "4F0"]]))) == "your own"
    )
    assert str(recognise(Schedule.from_tokens([["0F0"], ["1F0"]]))) == "your own"  # no backwards


def test_other_microbatch_numbers_and_other_halves_are_no_other_schedule():
    order = [3, 1, 0, 2]
    rows = [[a._replace(microbatch=order[a.microbatch]) for a in row] for row in gpipe(2, 4).ranks]
    renumbered = Schedule(tuple(map(tuple, rows)))
    assert str(recognise(renumbered)) == "GPipe, its microbatches in another order"
    rows = []
    for row in gpipe(3, 4).ranks:
        halves = [[a] if a.kind is Kind.F else [a._replace(kind=k) for k in "IW"] for a in row]
        rows.append(tuple(a._replace(kind=Kind(a.kind)) for pair in halves for a in pair))
    assert str(recognise(Schedule(tuple(rows)))) == "GPipe, its backwards in two halves"


def in_halves(schedule):
    """Each B as I and W, W directly behind its I."""

    def split(action):
        halves = "I", "W"
        whole = action.kind is not Kind.B
        return [action] if whole else [action._replace(kind=Kind(half)) for half in halves]

    rows = (tuple(half for action in row for half in split(action)) for row in schedule.ranks)
    return Schedule(tuple(rows))


def last_weight(row):
    """Put off the row's first W to its end."""
    row.append(row.pop(next(i for i, action in enumerate(row) if action.kind is Kind.W)))


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (in_halves(one_f_one_b(4, 8)), "1F1B, its backwards in two halves"),
        (in_halves(interleaved(2, 4)), "interleaved 1F1B, v = 2, its backwards in two halves"),
        (seq1f1b(3, 4, 2, halves=True), "seq1f1b, its backwards in two halves"),
        (
            edited(zero_bubble_h1(4, 8), 0, last_weight),
            "your own: zero bubble H1 with 1 of its W moved",
        ),
        (edited(v_half(4, 8), 1, last_weight), "your own: V-Half with 1 of its W moved"),
        (
            edited(zero_bubble_h1(4, 8), 0, lambda row: row.insert(4, row.pop(6))),
            "your own: zero bubble H1 with 1 of 96 actions moved",
        ),
        (
            edited(in_halves(one_f_one_b(4, 8)), 0, lambda row: row.insert(2, row.pop(6))),
            "your own: 1F1B with its backwards in two halves and 1 of 64 actions moved",
        ),
    ],
)
def test_where_w_is_and_whether_it_is(schedule, said):
    """A moved W is no other schedule's "two halves": once H1 with one moved W was 1F1B."""
    validate(schedule)
    assert str(recognise(schedule)) == said


def test_of_several_with_one_order_a_trace_is_called_by_its_own_name():
    for name in ("1f1b", "eager_1f1b", "gpipe", "sequential"):
        assert recognise(simulate(build(name, 2, 1), Cost())).name == name


def random_order(rng, p, m):
    """A schedule of one stage a rank that can run, in a random order."""
    row = [(kind, i) for kind in "FB" for i in range(m)]
    left, done = [set(row) for _ in range(p)], set()
    rows = [[] for _ in range(p)]

    def ready(rank, kind, i):
        if kind == "F":
            return rank == 0 or (rank - 1, kind, i) in done
        return (rank, "F", i) in done and (rank == p - 1 or (rank + 1, kind, i) in done)

    while any(left):
        rank = rng.randrange(p)
        if fits := sorted(todo for todo in left[rank] if ready(rank, *todo)):
            kind, i = rng.choice(fits)
            left[rank].remove((kind, i))
            done.add((rank, kind, i))
            rows[rank].append(f"{rank}{kind}{i}")
    return Schedule.from_tokens(rows)


def test_random_orders_are_called_by_no_name():
    rng = random.Random(2)
    for _ in range(30):
        schedule = random_order(rng, rng.randint(2, 5), rng.randint(4, 8))
        validate(schedule)
        found = recognise(schedule)
        assert found.is_own or found.difference == "its microbatches in another order", schedule


def test_of_replicas_the_first_is_taken_and_of_steps_the_first():
    events = simulate(one_f_one_b(2, 4), Cost()).events
    end = max(e.end for e in events)
    second = [e._replace(start=e.start + end, end=e.end + end) for e in events]
    copies = [e._replace(rank=e.rank + 2, start=e.start + 0.5, end=e.end + 0.5) for e in events]
    trace = Trace((*events, *second, *copies), "recorded", Setting(ranks=4, replicas=2))
    assert str(recognise(trace)) == "1F1B"


def test_what_overlaps_belongs_to_a_schedule():
    schedule = dual_pipe_v(2, 5)
    assert str(recognise(Schedule(schedule.ranks))) == "DualPipeV, nothing overlapped"
    fewer = Schedule(schedule.ranks, overlaps=frozenset([*schedule.overlaps][2:]))
    assert str(recognise(fewer)) == "DualPipeV, 2 pairs not overlapped"


def test_ranks_may_be_numbered_in_another_way():
    assert str(recognise(Schedule(one_f_one_b(4, 8).ranks[::-1]))) == "1F1B"


def test_a_trace_without_computation_is_refused():
    with pytest.raises(ScheduleError, match="nothing was computed in this trace"):
        recognise(Trace((Event(0, Kind.STEP, 0, None, 0.0, 1.0),), "recorded"))


def test_show_and_the_editor_say_it(tmp_path, capsys):
    own = edited(one_f_one_b(3, 4), 0, lambda row: row.insert(2, row.pop(3)))
    (tmp_path / "mine.csv").write_text(own.to_csv())
    main(["show", str(tmp_path / "mine.csv")])
    assert (
        "by its order        your own: 1F1B with two swapped: 0F2 and 0B0"
        in capsys.readouterr().out
    )
    (tmp_path / "gpipe.csv").write_text(gpipe(3, 4).to_csv())
    main(["show", str(tmp_path / "gpipe.csv")])
    shown = capsys.readouterr().out
    assert "by its order        GPipe" in shown and "bubble (p−1)/(m+p−1)" in shown
    assert "1F1B with two swapped: 0F2 and 0B0 on rank 0" in ScheduleEditor(own).message
    assert "Its order is GPipe" in ScheduleEditor(gpipe(2, 2)).message

"""Right answers to lessons 9 and 10 in another form, or another way: they pass as well."""

import pytest

from pipelab.lessons.chapters.ch09_draws import tokens
from pipelab.lessons.chapters.ch09_overlap import _compare_messages, _compare_order, may_hold
from pipelab.lessons.chapters.ch10_draws import ends
from pipelab.lessons.chapters.ch10_hangs import _changes, _compare_repair
from pipelab.lessons.unproven import BROKEN
from pipelab.schedules import Schedule, gpipe
from pipelab.schedules.communication import lower
from pipelab.schedules.walk import cycle
from tests.lessons.wrong_09 import ahead_of, right

REPAIRS = [  # rank, what stands there, what instead
    ("both send first", 0, "0SEND_F1 0RECV_B0", "0RECV_B0 0SEND_F1"),
    ("both send first", 0, "0F1 0SEND_F1 0RECV_B0", "0RECV_B0 0F1 0SEND_F1"),
    ("both send first", 1, "1SEND_B0 1RECV_F1", "1RECV_F1 1SEND_B0"),
    ("both send first", 1, "1F0 1B0 1SEND_B0 1RECV_F1", "1RECV_F1 1F0 1B0 1SEND_B0"),
    ("swapped", 1, "1RECV_F1 1RECV_F0", "1RECV_F0 1RECV_F1"),
    ("forgotten", 1, "1RECV_B1 1B1", "1RECV_B1 1B1 1SEND_B1"),
    ("no message at fault", 2, "2F1 2B0", "2B0 2F1"),
    ("no message at fault", 1, "1B0 1F1", "1F1 1B0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rank", "old", "new"), REPAIRS)
def test_every_repair_by_one_change_passes(name, rank, old, new):
    rows = list(BROKEN[name])
    assert old in rows[rank]
    rows[rank] = rows[rank].replace(old, new)
    for answer in (rows, [row.split() for row in rows]):
        assert _compare_repair(name, answer, name).ok


def test_changes_are_counted():
    before = [["a", "b", "c", "d"], ["e"]]
    assert _changes(before, before) == 0
    assert _changes(before, [["b", "c", "d", "a"], ["e"]]) == 1, "one moved, however far"
    assert _changes(before, [["b", "a", "d", "c"], ["e"]]) == 2
    assert _changes(before, [["a", "b", "x", "c", "d"], ["e"]]) == 1
    assert _changes(before, [["a", "b", "c"], ["e", "d"]]) == 2, "removed here, added there"
    assert _changes(before, [["a", "b", "c", "d"]]) == 1 and _changes([], before) == 5


@pytest.mark.parametrize(("p", "m"), [(2, 5), (3, 8), (4, 8), (4, 9)])
def test_whoever_holds_less_and_is_as_fast_passes(p, m):
    """One forward more than 1F1B, less than allowed: as short while the step is."""
    rows = [ahead_of(r, p, m, p - r if r < p - 1 else 0) for r in range(p)]
    assert _compare_order("fewer", rows, p, m).ok
    assert _compare_order("all", [right(r, p, m) for r in range(p)], p, m).ok
    assert [may_hold(r, p) for r in range(p)] == [2 * (p - r) - 1 for r in range(p)]


@pytest.mark.parametrize("order", [("1f1b", 4, 8), ("gpipe", 3, 4), ("sequential", 2, 3)])
def test_messages_as_the_engine_places_them_pass(order):
    (rows,) = tokens(*order)
    placed = lower(Schedule.from_tokens(rows))
    own = [[a.token for a in row if a.microbatch is not None] for row in placed.ranks]
    result = _compare_messages("the engine's", own, rows)
    assert result.ok, result


def test_receives_directly_before_their_use_pass_where_they_run():
    """GPipe never has two neighbours that both send: nothing has to go up."""
    from tests.lessons.wrong_09 import receive_just_before_use

    rows = [[a.token for a in row] for row in gpipe(3, 5).ranks]
    assert _compare_messages("late", receive_just_before_use(rows), rows).ok


@pytest.mark.parametrize("waits", [[1, 2, 1, 2], [1, 0], [1, 2, None], [None, 0, 1], [3, 0, 1, 2]])
def test_ends_of_waits_agree_with_the_engines_search_for_a_ring(waits):
    ring = cycle({rank: peer for rank, peer in enumerate(waits) if peer is not None})
    last = [rank for rank, peer in enumerate(waits) if peer is None and rank in waits]
    assert ends(waits) == sorted(ring or last)


def test_a_broken_program_stays_as_it_is_whoever_changes_its_list():
    for name in BROKEN:
        before = list(BROKEN[name])
        BROKEN[name][0] += " 0F9"
        assert BROKEN[name] == before

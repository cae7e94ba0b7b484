"""What lesson 10 runs though the engine refuses it: small messages hide the mistake."""

import pytest

from pipelab.errors import DeadlockError, RankTimeout, ScheduleError
from pipelab.lessons.unproven import BROKEN, exchange
from pipelab.schedules import Schedule, validate

BOTH = Schedule.from_tokens(row.split() for row in BROKEN["both send first"])
RING = "They wait for each other in a ring: rank 0 -> rank 1 -> rank 0"


def test_both_send_first_is_refused_and_runs_with_small_messages():
    with pytest.raises(DeadlockError) as caught:
        validate(BOTH)
    assert caught.value.cycle == (0, 1)
    validate(BOTH, rendezvous=False)
    assert {e.bytes for e in exchange(BOTH, 1000).events if "SEND" in e.kind} == {1000}


@pytest.mark.parametrize(("size", "overlap"), [(40_000_000, True), (1000, False)])
def test_it_hangs_where_a_send_has_to_wait_and_the_error_draws_the_ring(size, overlap):
    with pytest.raises(RankTimeout) as caught:
        exchange(BOTH, size, overlap, timeout=3.0)
    text = str(caught.value)
    assert "rank 0 waits until rank 1 takes its message 0SEND_F1" in text
    assert "rank 1 waits until rank 0 takes its message 1SEND_B0" in text
    assert RING in text and "endless loop" not in text


@pytest.mark.parametrize("name", [name for name in BROKEN if name != "both send first"])
def test_the_others_are_refused_even_if_sends_are_buffered(name):
    with pytest.raises(ScheduleError):
        exchange(Schedule.from_tokens(row.split() for row in BROKEN[name]), 1000)

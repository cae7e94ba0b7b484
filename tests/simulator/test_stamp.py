"""A block's tokens have no slots: stamping finds some that can be repeated."""

import pytest

from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule, v_min, validate
from pipelab.schedules.blocks import v_min_block
from pipelab.schedules.counts import peak_activations
from pipelab.simulator import Cost, simulate
from pipelab.simulator.stamp import stamped


def in_order(tokens: dict[str, int]) -> list[str]:
    """The tokens by their slots, each I with its W behind it."""
    row = []
    for token in sorted(tokens, key=tokens.__getitem__):
        row += [token] if "F" in token else [token, token.replace("I", "W")]
    return row


@pytest.mark.parametrize("p", range(2, 8))
def test_the_order_of_v_min_is_as_good_without_its_slots(p):
    pattern, period = v_min_block(p)
    found = stamped(Schedule.from_tokens([in_order(row) for row in pattern]), period, 12)
    validate(found)
    wanted = v_min(p, 12)
    assert max(peak_activations(found)) <= max(peak_activations(wanted))
    assert simulate(found, Cost()).duration <= simulate(wanted, Cost()).duration


def test_each_rank_keeps_the_order_of_its_tokens():
    rows = [["0F0", "3F0", "3I0", "3W0", "0B0"], ["1F0", "2F0", "2B0", "1I0", "1W0"]]
    for period in range(6, 12):
        found = stamped(Schedule.from_tokens(rows), period, 4)
        for row, wanted in zip(found.ranks, rows, strict=True):
            first = [action.token for action in row if action.microbatch == 0]
            assert [t for t in first if "W" not in t] == [t for t in wanted if "W" not in t]


def test_a_backward_without_two_slots_in_a_row_is_refused():
    whole = [["2F0", "4F0", "5F0", "5B0", "4B0", "2B0"], ["0F0", "1F0", "3F0", "3B0", "1B0", "0B0"]]
    with pytest.raises(ScheduleError, match=r"rank 0, 2B0: a B takes two .* period of 9") as caught:
        stamped(Schedule.from_tokens(whole), 9, 4)
    assert caught.value.cells == ((0, 5),)
    parts = [[t for token in row for t in halves(token)] for row in whole]
    validate(stamped(Schedule.from_tokens(parts), 9, 4))  # what the message advises
    validate(stamped(Schedule.from_tokens(whole), 10, 4))


def halves(token: str) -> list[str]:
    return [token.replace("B", "I"), token.replace("B", "W")] if "B" in token else [token]

"""The largest part is as small as any cut can make it."""

from itertools import accumulate, combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelab.errors import PartitionError
from pipelab.partition import balance


def largest(costs, sizes):
    ends = list(accumulate(sizes, initial=0))
    return max(sum(costs[a:b]) for a, b in pairwise(ends))


def best_of_all(costs, num_parts):
    n = len(costs)
    cuts = combinations(range(1, n), num_parts - 1)
    return min(largest(costs, [b - a for a, b in pairwise([0, *c, n])]) for c in cuts)


@given(data=st.data(), costs=st.lists(st.integers(0, 20), min_size=1, max_size=9))
def test_no_cut_is_better(data, costs):
    num_parts = data.draw(st.integers(1, len(costs)))
    sizes = balance(costs, num_parts)
    assert len(sizes) == num_parts and min(sizes) >= 1 and sum(sizes) == len(costs)
    assert largest(costs, sizes) == best_of_all(costs, num_parts)


@given(costs=st.lists(st.floats(0, 1e3), min_size=2, max_size=8))
def test_seconds_too(costs):
    assert largest(costs, balance(costs, 2)) == pytest.approx(best_of_all(costs, 2))


@pytest.mark.parametrize(("items", "parts"), [(3, 4), (0, 1), (3, 0)])
def test_refused_in_words(items, parts):
    with pytest.raises(PartitionError, match=f"{parts} stages"):
        balance([1] * items, parts)

"""What lesson 7 states: on paper by the simulator, recorded by its stored run."""

import re

import pytest
import torch

from pipelab.engine import Pipeline
from pipelab.lessons.chapters.ch07_draws import most_held
from pipelab.models import mlp
from pipelab.schedules import gpipe, one_f_one_b, v_half, v_min, zero_bubble_v
from pipelab.schedules.blocks import lifespans, v_half_block, v_min_block, zero_bubble_v_block
from pipelab.schedules.counts import count_messages, peak_activations
from pipelab.simulator import Cost, simulate
from tests.lessons.test_prose import said


def test_07_the_same_bubble_and_other_peaks():
    pace = Cost(0.01, 0.01, 0.01)
    for schedule in (gpipe(4, 8), one_f_one_b(4, 8)):
        trace = simulate(schedule, pace)
        assert trace.duration == pytest.approx(0.33)
        assert trace.bubble_fraction == pytest.approx(0.2727, abs=1e-4)
    assert simulate(one_f_one_b(4, 8), Cost(0.01, 0.02, 0.01)).duration == pytest.approx(0.44)


@pytest.mark.parametrize(("p", "m"), [(1, 4), (2, 3), (4, 2), (4, 8), (4, 16), (8, 5), (8, 8)])
def test_07_a_rank_holds_as_many_as_there_are_ranks_below_it(p, m):
    assert peak_activations(one_f_one_b(p, m)) == tuple(min(m, p - rank) for rank in range(p))
    assert peak_activations(gpipe(p, m)) == (m,) * p


@pytest.mark.parametrize("p", [2, 3, 4, 6, 7])
@pytest.mark.parametrize(
    ("block", "make"),
    [(v_half_block, v_half), (v_min_block, v_min), (zero_bubble_v_block, zero_bubble_v)],
)
def test_07_lifespans_decide_what_a_block_holds(p, block, make):
    """Of real orders the warmup can stay below it, never above."""
    found = [most_held(spans, 6, 4 * p) / 2 for spans in lifespans(*block(p), p)]
    assert max(found) == max(peak_activations(make(p, 4 * p)))
    for more, held in zip(found, peak_activations(make(p, 4 * p)), strict=True):
        assert more >= held


def test_07_1f1b_as_a_block():
    """Lifespan 3 (p - r), period 3."""
    pattern = [{f"{r}F0": r, f"{r}B0": 4 + 2 * (3 - r)} for r in range(4)]
    found = lifespans(pattern, 3, 4)
    assert [end - start for [(start, end)] in found] == [12, 9, 6, 3]
    assert [most_held(spans, 3, 8) for spans in found] == [4, 3, 2, 1]


def test_07_recorded():
    """What answers a prediction is not stored: there the teacher's cells prove it, in nbval."""
    assert "1f1b: trains" in said("07", "budget")
    assert "gpipe: rank 0 ran out of" in said("07", "budget")
    rows = [row for row in said("07", "dial").splitlines() if row.strip()]
    assert [re.split(r" {2,}", row)[1:] for row in rows[1:]] == [
        ["4", "3", "2", "1", "27.3 %", "27.3 %"],
        ["3", "3", "3", "3", "20.0 %", "22.8 %"],
        ["2", "2", "2", "2", "18.6 %", "30.2 %"],
    ]


def held_by_rank_0(schedule, **settings):
    """Bytes of activations, at the most, of lesson 7's model on real ranks."""
    model = mlp(width=64, depth=16, features=64, classes=64)
    inputs, targets = torch.randn(256, 64), torch.randint(64, (256,))
    loss = torch.nn.functional.cross_entropy
    with Pipeline(model, schedule, loss=loss, **settings) as pipeline:
        return pipeline.step(inputs, targets).trace.peak_activation_bytes[0]


def test_07_twice_the_ranks_take_a_fifth_more_and_checkpointing_less_than_half():
    """The answer beside the lab said "about the same"."""
    usual = held_by_rank_0(one_f_one_b(4, 8))
    assert held_by_rank_0(one_f_one_b(8, 8)) / usual == pytest.approx(1.2)
    assert held_by_rank_0(one_f_one_b(4, 8), checkpoint=True) / usual < 0.5


def test_07_the_dial_on_many_ranks_and_its_messages():
    """V-Half holds half of what 1F1B's rank 0 does, V-Min a third; both send twice as much."""
    p = 64
    for make, part in ((v_half, 1 / 2), (v_min, 1 / 3)):
        assert max(peak_activations(make(p, 2 * p))) / p == pytest.approx(part, rel=0.05)
        assert count_messages(make(4, 8)) == 2 * count_messages(one_f_one_b(4, 8))
    assert [max(peak_activations(make(4, 8))) for make in (v_half, v_min)] == [3, 2]

"""worker="torch": the same pipeline run by torch.distributed.pipelining, and recorded by us."""

from functools import partial

import pytest
import torch
from engine.one_process import batch, gradients, linears, plain_loop
from torch.nn.functional import cross_entropy

from pipelab.action import COMPUTE
from pipelab.engine import Pipeline
from pipelab.schedules.catalogue import BUILDERS, build

SGD = partial(torch.optim.SGD, lr=0.5)
V_SHAPED = {"zero_bubble_v"}
LOOPED = {"interleaved", "looped_bfs"}


def families(p, m):
    """All builders' schedules, in groups that put the stages on the same ranks."""
    groups = [set(BUILDERS) - LOOPED - V_SHAPED, LOOPED, V_SHAPED]
    return [[build(name, p, m) for name in sorted(group)] for group in groups]


def computed(trace):
    """What each rank computed, in order."""
    rows = [[] for _ in range(trace.num_ranks)]
    for event in trace.events:
        if event.kind in COMPUTE:
            rows[event.rank].append(f"{event.stage}{event.kind}{event.microbatch}")
    return rows


@pytest.mark.parametrize("p", [2, 4])
@pytest.mark.parametrize("family", [0, 1, 2])
@pytest.mark.parametrize("worker", ["torch", "pipelab"])
def test_gradients_of_both_workers_equal_one_process_under_every_builder(p, family, worker):
    m, rows = 4, 12
    model, (x, y) = linears(depth=8), batch(rows)
    loss = plain_loop(model, x, y, m)
    schedules = families(p, m)[family]
    with Pipeline(model, schedules[0], loss=cross_entropy, worker=worker) as pipeline:
        for schedule in schedules:
            pipeline.use(schedule)
            result = pipeline.step(x, y)
            ours = pipeline.gradients()
            assert computed(result.trace) == [
                [a.token for a in row] for row in schedule.compute.ranks
            ], schedule.name
            assert result.loss == pytest.approx(loss, rel=1e-6)
            for name, gradient in gradients(model).items():
                error = (ours[name] - gradient).norm() / gradient.norm()
                assert error < 1e-6, (schedule.name, name)

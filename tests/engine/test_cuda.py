"""What only a GPU can show; skipped, and said so, where there is none."""

from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

from pipelab.engine import Pipeline, verify_gradients
from pipelab.errors import PipelabError
from pipelab.models import mlp
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.simulator import Cost

GPUS = torch.cuda.device_count()
needs_gpu = pytest.mark.skipif(GPUS < 1, reason="no GPU on this machine")
needs_two = pytest.mark.skipif(GPUS < 2, reason="NCCL wants a GPU for each rank: fewer than two")
X, Y = torch.randn(16, 16), torch.arange(16) % 10
SGD = partial(torch.optim.SGD, lr=0.1)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(PipelabError, match="'tpu' is unknown: choose 'auto', 'cpu' or 'cuda'"):
        Pipeline(mlp(), build("gpipe", 2, 2), loss=cross_entropy, device="tpu")
    if GPUS == 0:
        with pytest.raises(PipelabError, match="shows no GPU: use device='cpu'"):
            Pipeline(mlp(), build("gpipe", 2, 2), loss=cross_entropy, device="cuda")


def gradients_are_right(schedule: Schedule, device: str, **options: object) -> None:
    report = verify_gradients(mlp(), schedule, X, Y, cross_entropy, device=device, **options)
    worst = max(row.max_difference for row in report.parameters)
    assert worst < 1e-4, str(report)  # a GPU adds up in another order than the host


@needs_gpu
@pytest.mark.parametrize("name", BUILDERS)
def test_every_schedule_on_gpus(name):
    gradients_are_right(build(name, 2, 3), "cuda")


@needs_gpu
def test_ranks_share_gpus_by_way_of_the_host():
    schedule = build("1f1b", GPUS + 1, 4)  # one rank more than there are GPUs: gloo, staged
    with Pipeline(mlp(), schedule, loss=cross_entropy, optimizer=SGD, device="cuda") as pipeline:
        result = [pipeline.step(X, Y) for _ in range(2)][-1]
        state, trace = pipeline.state_dict(), result.trace
    assert (trace.setting.device, trace.setting.backend) == ("cuda", "gloo")
    assert all(tensor.device.type == "cpu" for tensor in state.values())
    for allocated, memory in zip(result.allocated, trace.memory, strict=True):
        assert allocated >= memory.parameters
    events = [e for e in trace.events if e.kind in "FB"]
    assert len(events) == 2 * 4 * (GPUS + 1)
    assert all(0 <= e.start < e.end for e in events)


@needs_gpu
def test_replicas_memory_and_pacing_on_gpus():
    gradients_are_right(build("zero_bubble_h1", 2, 2), "cuda", replicas=2)
    gradients_are_right(build("1f1b", 2, 2), "cuda", checkpoint=True)
    cost = Cost(0.01, 0.01, 0.01, latency=0.002)
    with Pipeline(
        mlp(), build("1f1b", 2, 4), loss=cross_entropy, pace=cost, device="cuda"
    ) as pipeline:
        trace = [pipeline.step(X, Y).trace for _ in range(2)][-1]
    assert min(e.end - e.start for e in trace.events if e.kind == "F") > 0.008


@needs_two
@pytest.mark.parametrize("name", BUILDERS)
def test_nccl(name):
    schedule = build(name, 2, 3)
    with Pipeline(mlp(), schedule, loss=cross_entropy, device="cuda") as pipeline:
        assert pipeline.step(X, Y).trace.setting.backend == "nccl"
    gradients_are_right(schedule, "cuda")

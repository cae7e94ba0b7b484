"""Bad input is refused in words, with numbers and remedy, before a process starts."""

from functools import partial

import psutil
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from pipelab.engine import Pipeline
from pipelab.engine.launch import fork_server
from pipelab.errors import (
    BatchError,
    LossError,
    PartitionError,
    PipelabError,
    RankError,
    ScheduleError,
)
from pipelab.models import mlp
from pipelab.schedules import Schedule, gpipe, one_f_one_b

IN_PROCESS = pytest.mark.usefixtures("in_process")


def ranks_alive():
    """Forked from the server: programs that run beside the tests are not meant."""
    server = fork_server.pid()
    return psutil.Process(server).children(recursive=True) if server else []


class Funnel(nn.Module):
    def forward(self, x):
        return x


class Scaled(nn.CrossEntropyLoss):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


FIRST, SECOND = nn.Linear(4, 4), nn.Linear(4, 4)
SECOND.weight.data = FIRST.weight.data  # one memory, and yet no tied weight


@pytest.mark.parametrize(
    ("model", "schedule", "loss", "error", "words"),
    [
        (mlp(depth=3), gpipe(4, 2), cross_entropy, PartitionError, "3 layers cannot fill 4 stages"),
        (Funnel(), gpipe(2, 2), cross_entropy, PartitionError, "is a Funnel: only an nn.Seq"),
        ([FIRST, SECOND], gpipe(2, 2), mse_loss, PartitionError, "1.weight .* memory of 0.weight"),
        (mlp(), gpipe(2, 2), partial(cross_entropy, reduction="none"), LossError, r"shape \(2,\)"),
        (mlp(), gpipe(2, 2), nn.MSELoss(reduction="none"), LossError, r"shape \(2, 3\)"),
        (mlp(), gpipe(2, 2), lambda o, t: 0.5, LossError, "a float"),
        (mlp(), gpipe(2, 2), Scaled(), LossError, r"trainable parameters \(scale\)"),
        (mlp(), gpipe(2, 2), None, LossError, "give a function"),
        (mlp(), Schedule.from_tokens([["0F0"]]), cross_entropy, ScheduleError, "1 F, 0 B"),
    ],
)
def test_refused_before_launch(model, schedule, loss, error, words):
    before = ranks_alive()
    with pytest.raises(error, match=words):
        Pipeline(model, schedule, loss=loss)
    assert ranks_alive() == before


def test_m_zero_and_unknown_device():
    with pytest.raises(ScheduleError, match="num_microbatches is 0"):
        one_f_one_b(4, 0)
    with pytest.raises(PipelabError, match="device='tpu'"):
        Pipeline(mlp(), gpipe(2, 2), loss=cross_entropy, device="tpu")
    with pytest.raises(PipelabError, match="clip_norm=-1"):  # it would turn gradients around
        Pipeline(mlp(), gpipe(2, 2), loss=cross_entropy, clip_norm=-1)
    with pytest.raises(PipelabError, match=r"checkpoint=\[2\]: this model has stages 0 to 1"):
        Pipeline(mlp(), gpipe(2, 2), loss=cross_entropy, checkpoint=[0, 2])


@IN_PROCESS
def test_bad_batches_leave_the_pipeline_usable():
    x, y = torch.randn(6, 16), torch.randint(10, (6,))
    with Pipeline(mlp(), gpipe(2, 4), loss=cross_entropy) as pipeline:
        for inputs, targets, words in [
            (x[:0], y[:0], r"empty \(0 rows\)"),
            (x[:3], y[:3], "3 rows cannot be cut into 4 microbatches"),
            (x, y[:5], "inputs have 6 rows, targets have 5"),
            ([1, 2], y, "inputs is a list"),
            (x, None, "targets is a NoneType"),
            (torch.tensor(1.0), y, "a single number"),
        ]:
            with pytest.raises(BatchError, match=words):
                pipeline.step(inputs, targets)
        with pytest.raises(ScheduleError, match="for 4 ranks, this pipeline runs 2"):
            pipeline.use(gpipe(4, 4))
        swapped = Schedule.from_tokens([["1F0", "1B0"], ["0F0", "0B0"]])
        with pytest.raises(ScheduleError, match="stage 0 on rank 1"):
            pipeline.use(swapped)
        assert pipeline.step(x, y).loss > 0


@IN_PROCESS
@pytest.mark.parametrize(
    ("count", "words"),
    [
        (
            lambda targets: targets != -100,
            r"count= returned shape \(3,\) .* return one number",
        ),
        (lambda targets: None, "count= returned a NoneType"),
        (lambda targets: -1, r"count= gave \[-1.0, -1.0\] for the microbatches"),
    ],
)
def test_a_count_is_one_number(count, words):
    x, y = torch.randn(6, 16), torch.randint(10, (6,))
    with (
        Pipeline(mlp(), gpipe(2, 2), loss=cross_entropy, count=count) as pipeline,
        pytest.raises(BatchError, match=words),
    ):
        pipeline.step(x, y)


@IN_PROCESS
def test_a_loss_of_real_shapes_is_one_number():
    def of_ten(output, target):
        return cross_entropy(output[:, :10] * torch.ones(10), target, reduction="none")

    with (
        Pipeline(mlp(), gpipe(2, 2), loss=of_ten) as pipeline,
        pytest.raises(RankError, match=r"the loss returned shape \(3,\), not a tensor with one"),
    ):
        pipeline.step(torch.randn(6, 16), torch.randint(10, (6,)))


def test_a_loss_that_can_be_judged_only_on_real_shapes_is_accepted():
    from pipelab.engine.driver.checks import check_loss

    check_loss(lambda output, target: (output.mean(-1) - target).pow(2).mean(0))
    check_loss(lambda output, target: cross_entropy(output.flatten(0, 3), target))

"""A step that would train nothing is refused in words, as ``loss.backward()`` raises in a script.

On one rank such a step once ran on, and its gradients were nothing.
"""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.engine import Pipeline, verify_gradients
from pipelab.errors import LossError, PipelabError, RankError
from pipelab.schedules import gpipe
from pipelab.schedules.catalogue import BUILDERS, build
from tests.engine.one_process import assert_same, batch, gradients, linears, plain_loop

IN_PROCESS = pytest.mark.usefixtures("in_process")


class Cuts(nn.Module):
    """A trained layer whose output has no graph."""

    def __init__(self, how):
        super().__init__()
        self.inner, self.how = nn.Linear(8, 8), how

    def forward(self, x):
        with torch.set_grad_enabled(self.how != "no_grad"):
            y = self.inner(x)
        match self.how:
            case "integers":
                return torch.nn.functional.one_hot(y.argmax(1), 8).float()
            case "list":
                return torch.tensor(y.tolist())
            case "detached":
                return y.detach()
            case "leaf":
                return y.detach().requires_grad_()
        return y


class Behind(nn.Module):
    """Trained itself, but what came before is cut off."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return self.inner(x.detach())


def detached(output, target):
    return cross_entropy(output.detach(), target)


def as_number(output, target):
    return torch.tensor(cross_entropy(output, target).item())


def made_anew(output, target):
    return torch.tensor(cross_entropy(output, target).item(), requires_grad=True)


def accuracy(output, target):
    return (output.argmax(1) == target).float().mean()


def refused(model, schedule, loss=cross_entropy, worker="pipelab"):
    with (
        Pipeline(model, schedule, loss=loss, worker=worker) as pipeline,
        pytest.raises(RankError, match="LossError: the loss has no graph, so nothing") as caught,
    ):
        pipeline.step(*batch(12))
    last = schedule.num_stages - 1
    assert caught.value.rank == schedule.rank_of_stage[last]
    return caught.value


@IN_PROCESS
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("name", BUILDERS)
def test_a_last_layer_that_cuts_the_graph_is_named_under_every_schedule(name, p):
    schedule = build(name, p, max(3, BUILDERS[name].fewest(p)))
    error = refused(nn.Sequential(*linears(5), Cuts("detached")), schedule)
    assert "layer 5 (Cuts) gives an output without one, though its weights do" in str(error)
    assert (error.stage, error.action) == (schedule.num_stages - 1, f"{schedule.num_stages - 1}F0")


@IN_PROCESS
@pytest.mark.parametrize("how", ["detached", "no_grad", "list", "integers"])
def test_whatever_cuts_it(how):
    model = nn.Sequential(*linears(3), Cuts(how), nn.Softmax(1))
    assert "layer 3 (Cuts)" in str(refused(model, gpipe(2, 2)))
    model[3].requires_grad_(False)  # it still cuts off what came before
    assert "layer 3 (Cuts) gives an output without one, though its input does" in str(
        refused(model, gpipe(1, 2))
    )


@IN_PROCESS
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("name", ["gpipe", "zero_bubble_h1"])
def test_a_graph_that_ends_short_of_all_parameters(name, p):
    words = "no gradient reaches " + ("any parameter" if p == 1 else "the input of stage 1")
    with (
        Pipeline([*linears(3), Cuts("leaf")], build(name, p, 2), loss=cross_entropy) as pipeline,
        pytest.raises(RankError, match=words),
    ):
        pipeline.step(*batch(8))


@IN_PROCESS
@pytest.mark.parametrize("loss", [detached, as_number, made_anew, accuracy])
@pytest.mark.parametrize("p", [1, 2])
def test_or_the_loss_does(loss, p):
    assert "what the loss returns is cut off or made anew" in str(
        refused(linears(), gpipe(p, 3), loss)
    )


def test_torchs_worker_says_the_same():
    assert "layer 3 (Cuts)" in str(
        refused([*linears(3), Cuts("detached")], gpipe(2, 2), worker="torch")
    )


@IN_PROCESS
@pytest.mark.parametrize("p", [1, 4])
@pytest.mark.parametrize("model", [linears(4).requires_grad_(False), [nn.Tanh() for _ in range(4)]])
def test_a_model_without_trained_parameters_evaluates_and_does_not_step(model, p):
    x, y = batch(8)
    words = "the model has nothing to train"
    with Pipeline(model, gpipe(p, 2), loss=cross_entropy) as pipeline:
        for step in (pipeline.step, lambda x, y: next(pipeline.train([(x, y)]))):
            with pytest.raises(PipelabError, match=words):
                step(x, y)
        expected = nn.Sequential(*model)(x)
        assert torch.allclose(pipeline.predict(x), expected, atol=1e-6)
        assert pipeline.evaluate(x, y) == pytest.approx(cross_entropy(expected, y).item())
        assert pipeline.gradients() == {}
    with pytest.raises(PipelabError, match=words):
        verify_gradients(model, gpipe(p, 2), x, y, cross_entropy)


def test_torchs_worker_gives_no_zeros_to_what_is_cut_off():
    # it once gave zeros to the stage before, which momentum and decay act on
    with (
        Pipeline(
            [*linears(3), Behind()],
            build("zero_bubble_h1", 2, 2),
            loss=cross_entropy,
            worker="torch",
        ) as pipeline,  # fmt: skip
        pytest.raises(RankError, match="no gradient reaches the input of stage 1"),
    ):
        pipeline.step(*batch(8))


def test_torchs_halved_backwards_behind_frozen_stages_lose_no_gradient():
    # torch's I found no weights where the input needs no gradient: its W then gave them none
    model, (x, y) = linears(4), batch(8)
    model[:2].requires_grad_(False)
    schedule = build("zero_bubble_h1", 2, 4)
    with Pipeline(model, schedule, loss=cross_entropy, worker="torch") as pipeline:
        for _ in range(2):
            pipeline.step(x, y)
        ours = pipeline.gradients()
    plain_loop(model, x, y, 4)
    assert_same(ours, gradients(model))
    assert len(ours) == 4


def test_a_complex_loss_is_refused_before_launch():
    with pytest.raises(LossError, match="the loss returned a complex number"):
        Pipeline(linears(), gpipe(2, 2), loss=lambda output, target: (output + 1j).mean())


@IN_PROCESS
def test_or_on_the_first_rows():
    def of_eight(output, target):
        return (output * torch.ones(8, dtype=torch.complex64)).mean()

    with (
        Pipeline(linears(), gpipe(2, 2), loss=of_eight) as pipeline,
        pytest.raises(RankError, match="the loss returned a complex number"),
    ):
        pipeline.step(*batch(8))

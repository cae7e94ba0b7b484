"""An error of the learner's own is theirs, also of a type that a broken pipe has."""

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from pipelab.engine import Pipeline
from pipelab.errors import RankError
from pipelab.schedules import gpipe

X, Y = torch.ones(4, 4), torch.zeros(4, 4)


class Raises(nn.Module):
    """In forward; or in what pickle calls, in the rank or on the way back."""

    def __init__(self, error=None, what=""):
        super().__init__()
        self.error, self.what = error, what

    def forward(self, x):
        if self.what == "input":
            input()
        if self.what == "file":
            torch.load("/dev/null")
        if self.what == "forward":
            raise self.error("my own mistake")
        return x

    def __setstate__(self, state):
        if state["what"] == "setstate":
            raise state["error"]("my own mistake")
        super().__setstate__(state)


class Loss:
    def __call__(self, output, target):
        if output.requires_grad:
            raise BrokenPipeError("my own mistake")
        return mse_loss(output, target)


class Sgd(torch.optim.SGD):
    def step(self):
        raise ConnectionResetError("my own mistake")


class Unpicklable:
    def __reduce__(self):
        raise BrokenPipeError("my own mistake")


def no_end():
    raise EOFError("my own mistake")


class Unreadable:
    def __reduce__(self):
        return no_end, ()


class Keeps(nn.Linear):
    """Its extra state is sent back for ``state_dict``."""

    def __init__(self, kept):
        super().__init__(4, 4)
        self.kept = kept

    def get_extra_state(self):
        return self.kept()

    def set_extra_state(self, state):
        pass


def stages(last):
    return nn.Sequential(nn.Linear(4, 4), last)


def failing(model=None, loss=mse_loss, optimizer=None, then=lambda pipeline: None):
    """The error of a pipeline's first step, or of what comes then."""
    model = model or stages(nn.Linear(4, 4))
    make = optimizer and (lambda parameters: optimizer(parameters, lr=0.1))
    with (
        pytest.raises(RankError) as caught,
        Pipeline(model, gpipe(2, 2), loss=loss, optimizer=make, timeout=10.0) as pipeline,
    ):
        pipeline.step(X, Y)
        then(pipeline)
    assert type(caught.value) is RankError, "not RankDied"
    return str(caught.value)


@pytest.mark.parametrize(
    "error", [EOFError, BrokenPipeError, ConnectionResetError, TimeoutError, OSError]
)
def test_a_layer_may_raise_what_a_broken_pipe_does(error):
    words = failing(stages(Raises(error, "forward")))
    assert words.startswith(
        f"rank 1 failed in 1F0 (stage 1, forward, microbatch 0): {error.__name__}: my own mistake\n"
    )
    assert 'in forward: raise self.error("my own mistake")' in words


def test_so_may_a_file_that_ends_and_a_question_that_nobody_answers():
    assert "1F0 (stage 1, forward, microbatch 0): EOFError" in failing(stages(Raises(what="file")))
    assert 'in forward: torch.load("/dev/null")' in failing(stages(Raises(what="file")))
    assert "EOFError: EOF when reading a line" in failing(stages(Raises(what="input")))


def test_so_may_a_loss_an_optimizer_and_what_pickle_calls():
    assert "1F0 (stage 1, forward, microbatch 0): BrokenPipeError: my" in failing(loss=Loss())
    assert ", optimizer step): ConnectionResetError: my" in failing(optimizer=Sgd)  # either rank
    words = failing(stages(Raises(EOFError, "setstate")))
    assert words.startswith("rank 1 failed while it built stage 1: EOFError: my own mistake")
    for kept, error in ((Unpicklable, "BrokenPipeError"), (Unreadable, "EOFError")):
        words = failing(stages(Keeps(kept)), then=lambda pipeline: pipeline.state_dict())
        assert f"failed while it sent its parameters: {error}: my own mistake" in words
        assert "at File" in words and "raise" in words


def test_so_may_the_batches(in_process):
    def batches():
        yield X, Y
        raise EOFError("my own mistake")

    model = stages(nn.Linear(4, 4))
    with Pipeline(model, gpipe(2, 2), loss=mse_loss) as pipeline:
        with pytest.raises(EOFError, match="my own mistake"):
            list(pipeline.train(batches()))
        assert pipeline.step(X, Y).loss > 0

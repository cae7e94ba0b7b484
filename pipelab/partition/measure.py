"""What each layer costs: seconds, and bytes. ``split`` balances these."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipelab.errors import PartitionError
from pipelab.partition.chain import Model, as_model, call, named_layers
from pipelab.partition.saved import SavedBytes
from pipelab.partition.values import Value, map_tensors, tensors_of

Clock = Callable[[], float]


class Layer(NamedTuple):
    """The cost of one layer for one microbatch.

    Attributes:
        name: as in the model.
        forward: seconds.
        backward_input: seconds for the gradient of the input alone; 0 where nobody needs it, as in
            the first layer, whose input is data.
        backward_weight: seconds that the gradients of the weights cost more.
        parameter_bytes: weights alone, without gradients and optimizer state.
        activation_bytes: what autograd saves for the backward, parameters left out. A layer's
            output that the next one saves as its input too counts in both.
        output_bytes: the message to the next stage, if the model is cut after this layer.
    """

    name: str
    forward: float
    backward_input: float
    backward_weight: float
    parameter_bytes: int
    activation_bytes: int
    output_bytes: int


def measure(model: Model, sample: Value, repeats: int = 5) -> tuple[Layer, ...]:
    """Run each layer forward and backward in this process, and say what it costs.

    The model stays as it was: no gradients, the same buffers (BatchNorm's statistics), mode and
    random state. It is measured in the mode that it is in, on the device where it lives, with the
    threads that torch has here.

    >>> [layer.activation_bytes for layer in measure([nn.Linear(4, 3), nn.Tanh()], Tensor(5, 4))]
    [80, 60]

    Args:
        sample: the input of one microbatch.
        repeats: seconds are medians of so many runs, after one that is not timed.

    Raises:
        PartitionError: a model that is no row of layers, or a layer that fails on the sample.
    """
    layers = named_layers(as_model(model))
    if repeats < 1:
        raise PartitionError(f"repeats={repeats}: a median needs at least 1 run")
    value = map_tensors(Tensor.detach, sample)
    rows = []
    with _unchanged(layers.values(), sample) as clock, torch.enable_grad():
        for name, layer in layers.items():
            try:
                row, value = _profile(name, layer, value, repeats, clock)
            except Exception as error:
                raise PartitionError(
                    f"layer {name} ({type(layer).__name__}) failed on the sample with "
                    f"{type(error).__name__}: {error}; the sample is the input of one microbatch, "
                    f"and each layer takes what the one before it returns"
                ) from error
            rows.append(row)
    return tuple(rows)


def _profile(
    name: str, layer: nn.Module, value: Value, repeats: int, clock: Clock
) -> tuple[Layer, Value]:
    """The cost of a layer, and its output for the next one."""
    inputs, _ = _entry(value)
    with SavedBytes(layer) as saved:
        output = call(layer, inputs)
    runs = [_seconds(layer, value, clock) for _ in range(repeats)]
    forward, backward_input, backward = (median(column) for column in zip(*runs, strict=True))
    row = Layer(
        name, forward, backward_input, max(0.0, backward - backward_input),
        parameter_bytes=sum(p.nbytes for p in layer.parameters()),
        activation_bytes=saved.total,
        output_bytes=sum(tensor.nbytes for tensor in tensors_of(output)),
    )  # fmt: skip
    return row, map_tensors(lambda t: t.detach().requires_grad_(t.requires_grad), output)


def _entry(value: Value) -> tuple[Value, list[Tensor]]:
    """A copy that a layer may change in place, and the leaves that the gradients of it reach."""
    leaves = map_tensors(lambda t: t.detach().requires_grad_(t.requires_grad), value)
    copy = map_tensors(Tensor.clone, leaves)
    return copy, [leaf for leaf in tensors_of(leaves) if leaf.requires_grad]


def _seconds(layer: nn.Module, value: Value, clock: Clock) -> tuple[float, float, float]:
    """One run: forward, the backward to the input alone, the full backward."""
    inputs, leaves = _entry(value)
    start = clock()
    output = call(layer, inputs)
    forward = clock() - start
    roots = [tensor for tensor in tensors_of(output) if tensor.requires_grad]
    weights = [p for p in layer.parameters() if p.requires_grad]
    to_input = _gradient_seconds(roots, leaves, clock)
    full = _gradient_seconds(roots, [*leaves, *weights], clock) if weights else to_input
    return forward, to_input, full


def _gradient_seconds(roots: list[Tensor], leaves: list[Tensor], clock: Clock) -> float:
    if not (roots and leaves):
        return 0.0
    ones = [torch.ones_like(root) for root in roots]
    start = clock()
    # not backward(): that would leave .grad behind
    torch.autograd.grad(roots, leaves, ones, retain_graph=True, allow_unused=True)
    return clock() - start


@contextmanager
def _unchanged(layers: Iterable[nn.Module], sample: Value) -> Iterator[Clock]:
    """Give buffers and random state back as they were; within, a clock that waits for GPUs."""
    modules = [module for layer in layers for module in layer.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    parameters = [p for module in modules for p in module.parameters(recurse=False)]
    gpus = {t.device for t in [*parameters, *tensors_of(sample)] if t.is_cuda}

    def clock() -> float:
        for gpu in gpus:
            torch.cuda.synchronize(gpu)
        return perf_counter()

    try:
        with torch.random.fork_rng(devices=list(gpus)):
            yield clock
    finally:
        for module, name, buffer, before in buffers:
            with torch.no_grad():
                module._buffers[name] = buffer.copy_(before)

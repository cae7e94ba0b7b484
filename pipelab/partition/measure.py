"""What each layer costs: seconds, and bytes. ``split`` balances these."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipelab.errors import PartitionError
from pipelab.partition.chain import Model, as_model, call, named_layers
from pipelab.partition.saved import SavedBytes
from pipelab.partition.tree import Value, map_tensors, tensors_of
from pipelab.threads import num_threads

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
    random state. It is measured in the mode that it is in, on its device, and on one CPU
    thread, which is what a rank has where ranks fill the cores.

    >>> [layer.activation_bytes for layer in measure([nn.Linear(4, 3), nn.Tanh()], Tensor(5, 4))]
    [80, 60]

    Args:
        sample: the input of one microbatch.
        repeats: seconds are medians of so many runs, after one that is not timed. Other programs
            on the machine show in them, so give more where a cut must not change.

    Raises:
        PartitionError: a model that is no row of layers, or a layer that fails on the sample.
    """
    layers = named_layers(as_model(model))
    if repeats < 1:
        raise PartitionError(f"repeats={repeats}: a median needs at least 1 run")
    with _unchanged(layers.values(), sample) as clock, torch.enable_grad():
        inputs = map_tensors(Tensor.detach, sample)
        probes = []
        for name, layer in layers.items():
            probes.append(_probe(name, layer, inputs))
            inputs = probes[-1].output
        # Round after round over all layers: what else the machine does then hits them alike.
        rounds = [[_seconds(probe, clock) for probe in probes] for _ in range(repeats)]
    return tuple(map(_row, probes, zip(*rounds, strict=True)))


class _Probe(NamedTuple):
    """A layer with its input, and what its first run showed."""

    name: str
    layer: nn.Module
    inputs: Value
    output: Value
    activation_bytes: int


class _Seconds(NamedTuple):
    forward: float
    backward_input: float
    backward: float


def _probe(name: str, layer: nn.Module, value: Value) -> _Probe:
    inputs, _ = _entry(value)
    try:
        with SavedBytes(layer) as saved:
            output = call(layer, inputs)
    except Exception as error:
        raise PartitionError(
            f"layer {name} ({type(layer).__name__}) failed on the sample with "
            f"{type(error).__name__}: {error}; the sample is the input of one microbatch, "
            f"and each layer takes what the one before it returns"
        ) from error
    output = map_tensors(lambda t: t.detach().requires_grad_(t.requires_grad), output)
    return _Probe(name, layer, value, output, saved.total)


def _row(probe: _Probe, runs: Sequence[_Seconds]) -> Layer:
    return Layer(
        probe.name,
        forward=median(run.forward for run in runs),
        backward_input=median(run.backward_input for run in runs),
        backward_weight=max(0.0, median(run.backward - run.backward_input for run in runs)),
        parameter_bytes=sum(p.nbytes for p in probe.layer.parameters()),
        activation_bytes=probe.activation_bytes,
        output_bytes=sum(tensor.nbytes for tensor in tensors_of(probe.output)),
    )


def _entry(value: Value) -> tuple[Value, list[Tensor]]:
    """A copy that a layer may change in place, and the leaves that the gradients of it reach."""
    leaves = map_tensors(lambda t: t.detach().requires_grad_(t.requires_grad), value)
    copy = map_tensors(Tensor.clone, leaves)
    return copy, [leaf for leaf in tensors_of(leaves) if leaf.requires_grad]


def _seconds(probe: _Probe, clock: Clock) -> _Seconds:
    """One run: forward, the backward to the input alone, the full backward."""
    inputs, leaves = _entry(probe.inputs)
    start = clock()
    output = call(probe.layer, inputs)
    forward = clock() - start
    roots = [tensor for tensor in tensors_of(output) if tensor.requires_grad]
    weights = [p for p in probe.layer.parameters() if p.requires_grad]
    to_input = _gradient_seconds(roots, leaves, clock)
    full = _gradient_seconds(roots, [*leaves, *weights], clock) if weights else to_input
    return _Seconds(forward, to_input, full)


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
    """Give buffers, random state and threads back; within, a clock that waits for GPUs."""
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
        with torch.random.fork_rng(devices=list(gpus)), num_threads(1):
            yield clock
    finally:
        for module, name, buffer, before in buffers:
            with torch.no_grad():
                module._buffers[name] = buffer.copy_(before)

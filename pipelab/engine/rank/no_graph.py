"""A loss without a graph: from it no gradient goes back, so a training step would train nothing.

PyTorch's own ``loss.backward()`` raises then; a pipeline has no such call, and says more.
"""

from contextlib import suppress
from typing import Any

from torch import nn

from pipelab.errors import LossError
from pipelab.partition.chain import layer_calls
from pipelab.partition.tree import tensors_of

_CUTS = "detach(), no_grad(), .item(), argmax or integers"


def no_graph(output: Any, module: nn.Module, inputs: Any) -> LossError:
    """The error that says where the graph ends: in the loss, or in which layer.

    Args:
        output: of the last stage, ``module``, for the ``inputs`` of one microbatch.
    """
    if _needs_gradient(output):
        where = "the model's output has one, what the loss returns is cut off or made anew"
    else:
        where = _cutting_layer(module, inputs) or "the last stage's output has none"
    return LossError(
        f"the loss has no graph, so nothing would be trained:\n"
        f"  {where}\n"
        f"Look there for {_CUTS}.\n"
        f"For a microbatch that has nothing to learn from, return output.sum() * 0;\n"
        f"evaluate() measures without training."
    )


def _cutting_layer(module: nn.Module, value: Any) -> str:
    """The first layer whose output requires no gradient though its input or weights do."""
    with suppress(Exception):  # called once more, it may do other things
        for name, layer, run in layer_calls(module):
            is_trained = any(p.requires_grad for p in layer.parameters())
            before, value = _needs_gradient(value), run(value)
            if (before or is_trained) and not _needs_gradient(value):
                kind, whose = type(layer).__name__, "weights do" if is_trained else "input does"
                return f"layer {name} ({kind}) gives an output without one, though its {whose}"
    return ""


def _needs_gradient(value: Any) -> bool:
    return any(tensor.requires_grad for tensor in tensors_of(value))

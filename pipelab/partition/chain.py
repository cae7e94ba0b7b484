"""A row of layers, each handed what the one before it returned.

    nn.Sequential      gets the value as its one argument, whatever it is
    any other module   gets a tensor as its argument, a tuple or list as its positional arguments,
                       a dict as its keyword arguments

So a batch may be one tensor, a tuple or a dict of tensors, and so may what a layer returns.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from torch import nn

from pipelab.errors import PartitionError
from pipelab.partition.tree import Value

Model = nn.Module | Sequence[nn.Module]


def call(module: nn.Module, value: Value) -> Value:
    """What the module returns for a value, which is unpacked as its kind wants it.

    >>> import torch
    >>> call(nn.Bilinear(2, 3, 4), (torch.zeros(5, 2), torch.zeros(5, 3))).shape
    torch.Size([5, 4])
    """
    output: Value
    if isinstance(module, _SEQUENCES):
        output = module(value)
    elif isinstance(value, Mapping):
        output = module(**value)
    elif isinstance(value, tuple | list):
        output = module(*value)
    else:
        output = module(value)
    return output


class Chain(nn.Module):
    """Layers one after the other by ``call``; an ``nn.Sequential`` for tuples and dicts too.

    Args:
        layers: by name, in order. A stage keeps the names of the whole model, so that
            ``"3.weight"`` is the same parameter in both.
    """

    def __init__(self, layers: Mapping[str, nn.Module]):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, value: Value) -> Value:
        """The last layer's output."""
        for layer in named_layers(self).values():
            value = call(layer, value)
        return value


_SEQUENCES = (nn.Sequential, Chain)


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers by name; a layer used twice is there twice (``named_children`` leaves it out)."""
    return {name: layer for name, layer in model._modules.items() if layer is not None}


def layer_of(name: str) -> str:
    """Whose entry this is, of all layers of a model: the first part of its name in a state_dict."""
    return name.partition(".")[0]


def layer_calls(
    model: nn.Module, prefix: str = ""
) -> Iterator[tuple[str, nn.Module, Callable[[Value], Value]]]:
    """Each layer of a row by its name, with the call that the row makes; in nested rows too.

    >>> [name for name, _, _ in layer_calls(nn.Sequential(nn.Tanh(), nn.Sequential(nn.Tanh())))]
    ['0', '1.0']
    """
    for name, layer in named_layers(model).items():
        if isinstance(layer, Chain) or type(layer) is nn.Sequential:
            yield from layer_calls(layer, f"{prefix}{name}.")
        else:
            yield prefix + name, layer, partial(call, layer) if isinstance(model, Chain) else layer


def as_model(model: Model) -> nn.Sequential | Chain:
    """The model as a row of layers that can be cut: an ``nn.Sequential``, or a ``Chain`` of a list.

    Nothing is copied; the layers of a list are named ``"0"``, ``"1"``, ... as in a
    ``nn.ModuleList``.

    >>> list(as_model([nn.Linear(2, 3), nn.Tanh()]).state_dict())
    ['0.weight', '0.bias']

    Raises:
        PartitionError: anything else, since nobody but its own ``forward`` knows in which order its
            layers run.
    """
    if isinstance(model, Chain):
        return model
    if isinstance(model, nn.Sequential):
        if _has_own_forward(model):
            raise PartitionError(
                f"the model is a {type(model).__name__}, an nn.Sequential that redefines forward, "
                f"which its stages would not run: put what that does into layers"
            )
        return model
    if isinstance(model, nn.ModuleList):
        return Chain(named_layers(model))
    if isinstance(model, list | tuple):
        return _from_list(model)
    raise PartitionError(
        f"the model is a {type(model).__name__}: only an nn.Sequential or a list of modules can be "
        f"cut into stages; write it as [layer, layer, ...], each taking what the one before it "
        f"returns (a GPT-2 or Llama of Hugging Face: pipelab.models.hugging_face.layers_of(model))"
    )


def _has_own_forward(model: nn.Sequential) -> bool:
    """Whether its class, or somebody later, has replaced what an ``nn.Sequential`` does."""
    forward = getattr(model.forward, "__func__", None)
    is_called = type(model).__call__ is nn.Module.__call__
    return forward is not nn.Sequential.forward or not is_called


def _from_list(layers: Sequence[object]) -> Chain:
    modules: dict[str, nn.Module] = {}
    for number, layer in enumerate(layers):
        if not isinstance(layer, nn.Module):
            raise PartitionError(
                f"layer {number} of the list is a {type(layer).__name__}, not a module: "
                f"a stage is made of modules (nn.Module); call it in the forward of one"
            )
        modules[str(number)] = layer
    if not modules:
        raise PartitionError("the model is an empty list: it needs at least 1 layer for each stage")
    return Chain(modules)

"""Refuse a model of which the ranks' copies would be another model.

A rank trains a copy of its layers. Some things are lost in a copy without a word:

    hooks of a tensor         weight.register_hook(...), buffer.register_hook(...)
    hooks of the whole model  model.register_forward_hook(...): ranks run its layers, not the model
    hooks of all modules      register_module_forward_hook(...): a setting of this process
    a graph                   self.scale = other.weight * 2: the copy is a plain tensor
    what else refers to it    a weight of another stage, in a hook of a layer, in the loss: a copy
                              of it is never trained

Hooks of layers travel with their layer. Weights that share memory: partition/sharing.py.
"""

import gc
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from types import ModuleType

from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.nn.modules import module as torchs
from torch.optim import optimizer

from pipelab.engine.protocol.commands import Options
from pipelab.engine.protocol.copies import recomputed
from pipelab.engine.protocol.host import under_torchrun
from pipelab.engine.protocol.pickling import Pickler
from pipelab.errors import ModelError
from pipelab.partition.chain import named_layers

_OF_MODELS = {  # where a module keeps its hooks, and what puts them there
    "_forward_pre_hooks": "register_forward_pre_hook",
    "_forward_hooks": "register_forward_hook",
    "_backward_pre_hooks": "register_full_backward_pre_hook",
    "_backward_hooks": "register_full_backward_hook",
    "_state_dict_pre_hooks": "register_state_dict_pre_hook",
    "_state_dict_hooks": "register_state_dict_post_hook",
    "_load_state_dict_pre_hooks": "register_load_state_dict_pre_hook",
    "_load_state_dict_post_hooks": "register_load_state_dict_post_hook",
}
_OF_ALL = {  # the same for all modules of a process
    "_global_forward_pre_hooks": "register_module_forward_pre_hook",
    "_global_forward_hooks": "register_module_forward_hook",
    "_global_backward_pre_hooks": "register_module_full_backward_pre_hook",
    "_global_backward_hooks": "register_module_full_backward_hook",
}
_OF_OPTIMIZERS = {
    "_global_optimizer_pre_hooks": "register_optimizer_step_pre_hook",
    "_global_optimizer_post_hooks": "register_optimizer_step_post_hook",
}
_COPIES = "Each rank trains a copy of its layers"


def check_model(model: object, stages: list[nn.Module], options: Options) -> None:
    """Raise ModelError if a copy of a stage would lose what the model's gradients depend on.

    ``model``: as it was given. ``stages``: its layers, by stage.
    """
    if isinstance(model, nn.Module):
        _refuse_own(model)
    if not under_torchrun():  # there, a rank is this process
        _refuse_global_hooks("modules", torchs, _OF_ALL)
        _refuse_global_hooks("optimizers", optimizer, _OF_OPTIMIZERS)
    names = [{id(p): name for name, p in stage.named_parameters()} for stage in stages]
    for number, stage in enumerate(stages):
        others = {key: name for own in names for key, name in own.items()}
        for key in names[number]:
            del others[key]
        for name, layer in named_layers(stage).items():
            _check_layer(f"layer {name} (stage {number})", layer, others)
    _refuse_copied_weights(options, names)


def _refuse_own(model: nn.Module) -> None:
    """What belongs to the model itself, and to none of its layers, is in no stage."""
    for attribute, name in _OF_MODELS.items():
        if getattr(model, attribute, None):
            raise ModelError(
                f"the model itself has a hook ({name}):\n"
                f"ranks run its layers, not the model, so the hook would never be called.\n"
                f"Register it on a layer, such as model[0] or model[-1]"
            )
    own = [*model.named_parameters(recurse=False), *model.named_buffers(recurse=False)]
    if own:
        raise ModelError(
            f"{own[0][0]} belongs to the model itself and to none of its layers:\n"
            f"ranks hold layers alone, so it would be in no stage. Move it into a layer"
        )


def _refuse_global_hooks(what: str, home: ModuleType, attributes: Mapping[str, str]) -> None:
    for attribute, name in attributes.items():
        hooks = getattr(home, attribute, {}).values()
        if any(not str(hook.__module__).startswith("torch.") for hook in hooks):
            raise ModelError(
                f"this process has a hook of all {what} ({name}):\n"
                f"ranks are other processes, and it would not be called there.\n"
                f"Remove it, or register it on the layers, or in the function given as optimizer="
            )


def _check_layer(where: str, layer: nn.Module, others: Mapping[int, str]) -> None:
    """``others``: the weights of the other stages, by their ids."""
    names = {id(t): n for n, t in [*layer.named_parameters(), *layer.named_buffers()]}
    anew = recomputed(layer)
    for tensor in _tensors_with(layer):
        if id(tensor) not in anew:
            _refuse_hook_or_graph(names.get(id(tensor)), where, tensor)
        if id(tensor) in others:
            raise ModelError(
                f"{where} refers to {others[id(tensor)]}, which another stage trains:\n"
                f"{_COPIES}, and this one would hold a copy that is never trained.\n"
                f"Put both layers into one stage (split(..., sizes=...)), or hand the value on"
            )


def _refuse_hook_or_graph(name: str | None, where: str, tensor: Tensor) -> None:
    what = f"{name or f'a tensor of shape {tuple(tensor.shape)}'} of {where}"
    if hook := _hook_of(tensor):
        raise ModelError(_has_hook(what, hook))
    if tensor.grad_fn is not None:
        raise ModelError(_has_graph(what, tensor))


def _refuse_copied_weights(options: Options, names: list[dict[int, str]]) -> None:
    """The loss is computed beside the last stage; an optimizer beside each."""
    trained = {key: name for own in names for key, name in own.items()}
    parts = {"loss": options.loss, "optimizer": options.optimizer}
    for part, given in {**parts, "lr_schedule": options.lr_schedule}.items():
        own = names[-1] if part == "loss" else {}
        for tensor in _tensors_with(given):
            if id(tensor) in trained and id(tensor) not in own:
                raise ModelError(_copied_weight(part, trained[id(tensor)]))
            _refuse_hook_or_graph(None, f"the {part}", tensor)


def _copied_weight(part: str, name: str) -> str:
    advice = (
        "Let the layers hand on what it needs as part of their output"
        if part == "loss"
        else f"Use what it is called with: {part}=lambda parameters: SGD(parameters, lr=0.1)"
    )
    return (
        f"the {part} refers to {name}, a weight of the model:\n"
        f"{_COPIES}; the {part} would get another copy, which is never trained.\n{advice}"
    )


def _tensors_with(value: object) -> list[Tensor]:
    """All tensors that travel with a value: also those of a hook, a closure, a list."""
    finder = _Finder(io.BytesIO(), protocol=5)
    with suppress(Exception):  # what cannot be pickled is refused where it is sent
        finder.dump(value)
    return finder.found


class _Finder(Pickler):
    """Pickles everything but tensors, and collects these."""

    def __init__(self, file: io.BytesIO, protocol: int):
        super().__init__(file, protocol=protocol)
        self.found: list[Tensor] = []

    def persistent_id(self, obj: object) -> int | None:
        """A number stands for each tensor; None: pickle it."""
        if not isinstance(obj, Tensor):
            return None
        self.found.append(obj)
        return id(obj)


def _hook_of(tensor: Tensor) -> str:
    """What has set a hook of this tensor; "" if nothing has."""
    if getattr(tensor, "_backward_hooks", None):
        return "register_hook"
    if getattr(tensor, "_post_accumulate_grad_hooks", None):
        return "register_post_accumulate_grad_hook"
    if tensor.is_leaf and tensor.requires_grad and any(_hooks_of_node(tensor)):
        return "grad_fn ... register_hook, or register_prehook"
    return ""


def _hooks_of_node(leaf: Tensor) -> Iterator[Iterable[object]]:
    """Those of the node that adds up a leaf's gradients.

    Autograd does not say which they are, but the garbage collector does; as long as a graph of an
    earlier forward is alive, it does not.
    """
    for found in gc.get_referents(get_gradient_edge(leaf).node):
        if isinstance(found, dict):
            yield found


def _has_hook(what: str, hook: str) -> str:
    return (
        f"{what} has a hook ({hook}):\n"
        f"{_COPIES}, and the copy of a tensor has no hooks: it would be lost.\n"
        f"Register it in the layer's forward, on w = self.weight.view_as(self.weight); or on the\n"
        f"ranks, in the function given as optimizer=, which gets each stage's parameters there"
    )


def _has_graph(what: str, tensor: Tensor) -> str:
    node = tensor.grad_fn.name() if tensor.grad_fn is not None else ""
    return (
        f"{what} is the result of a computation ({node}):\n"
        f"{_COPIES}, and the copy of a tensor has no graph: no gradient would flow\n"
        f"through it. Compute it in the layer's forward, or detach() it"
    )

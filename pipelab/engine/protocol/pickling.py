"""What travels to a rank as bytes: cloudpickle, with what it and PyTorch cannot pickle.

plain tensors          as raw bytes, several times faster than by their own pickling
code                   with the name of its file, so that tracebacks show the learner's line
parametrized layers    weight_norm, spectral_norm, orthogonal: a class made for one module
TorchScript            as torch.jit.save writes it
compiled functions     as what was compiled and how; the rank compiles it again
"""

import copyreg
import io
import pickle
from collections import OrderedDict
from contextlib import suppress
from importlib import import_module
from operator import attrgetter
from types import CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pipelab.partition.tree import raw_bytes
from pipelab.tracebacks import reduced_code

# what may be made otherwise than pickle would, by us or by cloudpickle
_OURS = (nn.Module, Tensor, type, FunctionType, CodeType, ModuleType, torch.jit.ScriptFunction)


_TABLES = cloudpickle.Pickler.dispatch_table.maps


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """For a learner's models, losses and functions, also those of a notebook cell."""

    def __init__(self, file: io.BytesIO, protocol: int):
        # flat: cloudpickle's chain of dicts, in Python, would be asked for each object
        self.dispatch_table = {}
        for table in (*reversed(_TABLES), {OrderedDict: _reduce_ordered}):
            self.dispatch_table.update(table)
        super().__init__(file, protocol=protocol)

    def reducer_override(self, obj: object) -> Any:
        """How to make ``obj`` again; NotImplemented leaves it to its own class."""
        if not isinstance(obj, _OURS):  # most: numbers, names, dicts
            return NotImplemented
        if type(obj) is Tensor:
            return _reduce_tensor(obj)
        if type(obj) is CodeType:
            return reduced_code(obj, self.dispatch_table)
        if isinstance(obj, ModuleType) and obj.__name__.startswith("torch."):
            return _module_of_torch, (obj.__name__,)
        if isinstance(obj, torch.jit.ScriptModule | torch.jit.ScriptFunction):
            return reduce_script(obj)
        if isinstance(obj, nn.Module) and parametrize.is_parametrized(obj):
            return _reduce_parametrized(obj)
        if isinstance(obj, nn.Module) and _context_of(obj._compiled_call_impl):
            return _reduce_compiled_module(obj)
        if type(obj) is FunctionType and hasattr(obj, "_torchdynamo_orig_callable"):
            return _reduce_compiled(obj) or super().reducer_override(obj)
        return super().reducer_override(obj)


def _reduce_ordered(ordered: OrderedDict[Any, Any]) -> Any:
    """As its own, which looks for slots: each module has a dozen of them."""
    return OrderedDict, (), vars(ordered) or None, None, iter(ordered.items())


def _reduce_tensor(tensor: Tensor) -> Any:
    if not _is_raw(tensor):
        return tensor.__reduce_ex__(5)  # type: ignore[no-untyped-call]
    tensor = tensor.cpu().resolve_conj().resolve_neg()  # each rank lays it where it computes
    raw = raw_bytes(tensor.contiguous()).numpy().tobytes()
    return _tensor, (raw, tensor.dtype, tuple(tensor.shape))


def _is_raw(tensor: Tensor) -> bool:
    """Whether its bytes say all: no gradient, sparse, quantized or nested tensor."""
    if tensor.requires_grad or tensor.layout is not torch.strided:
        return False
    return not (tensor.is_quantized or tensor.is_nested or tensor.is_meta)


def _tensor(raw: bytes, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    if not raw:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(raw), dtype=dtype).reshape(shape)


class FastPickler(pickle.Pickler):
    """For batches and results, which hold no classes of a learner's: tensors as raw bytes."""

    dispatch_table = {**copyreg.dispatch_table, Tensor: _reduce_tensor}  # noqa: RUF012


def _module_of_torch(name: str) -> object:
    """By its name. Some cannot be imported (torch._C._functions), or are no plain modules."""
    with suppress(ImportError):
        return import_module(name)
    return attrgetter(name.removeprefix("torch."))(torch)


def reduce_script(script: object) -> Any:
    """TorchScript as what loads it, and its bytes."""
    file = io.BytesIO()
    torch.jit.save(script, file)
    return load_script, (file.getvalue(),)


def load_script(raw: bytes) -> torch.jit.ScriptModule:
    """TorchScript from bytes."""
    found: torch.jit.ScriptModule = torch.jit.load(io.BytesIO(raw))  # type: ignore[no-untyped-call]
    return found


def _reduce_parametrized(module: nn.Module) -> Any:
    """PyTorch gives each such module a private class, which refuses to be pickled."""
    own = type(module).__bases__[0]
    return _parametrized, (own,), {**module.__dict__}, None, None, _set_parametrized


def _parametrized(own: type[nn.Module]) -> nn.Module:
    return own.__new__(own)


def _set_parametrized(module: nn.Module, state: dict[str, Any]) -> None:
    module.__dict__.update(state)
    parametrize._inject_new_class(module)
    assert isinstance(module.parametrizations, nn.ModuleDict)
    for name in module.parametrizations:
        parametrize._inject_property(module, name)


def _reduce_compiled(function: FunctionType) -> Any:
    """The context of torch.compile, which compiles what it is called with."""
    context = _context_of(function)
    return context and (context, (function._torchdynamo_orig_callable,))  # type: ignore[attr-defined]


def _context_of(compiled: object) -> Any:
    """How a function was compiled; None if PyTorch keeps it elsewhere than in 2.13."""
    for cell in getattr(compiled, "__closure__", None) or ():
        if type(cell.cell_contents).__name__ == "OptimizeContext":
            return cell.cell_contents
    return None


def _reduce_compiled_module(module: nn.Module) -> Any:
    """``module.compile()`` is forgotten in a copy: compile the copy in the same manner."""
    parts: Any = module.__reduce_ex__(4)
    make, args, state, *_ = parts
    context = _context_of(module._compiled_call_impl)
    return make, args, (state, context), None, None, _set_compiled


def _set_compiled(module: nn.Module, state: tuple[dict[str, Any], Any]) -> None:
    values, context = state
    module.__setstate__(values)  # type: ignore[no-untyped-call]
    module._compiled_call_impl = context(module._call_impl)

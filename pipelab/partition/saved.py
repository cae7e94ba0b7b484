"""Bytes that autograd keeps of a forward for its backward."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, UntypedStorage, nn

_ONE_PAIR = (
    "a layer sets hooks of one saved tensor (_raw_saved_... .register_hooks), and PyTorch takes "
    "one pair: the first forward of a shape has those that count its bytes. Use "
    "torch.autograd.graph.saved_tensors_hooks around the operation"
)


class SavedBytes:
    """Count what autograd really saves within ``with``, each storage once, parameters left out.

    A layer may save its input, its output, neither, or something else; views of one storage
    count once. What the caller keeps in addition, it adds with ``keep``.
    """

    def __init__(self, module: nn.Module):
        own = (*module.parameters(), *module.buffers())
        self._ours = {s.data_ptr() for tensor in own for s in _storages(tensor)}
        self._sizes: dict[int, int] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: kept)

    def keep(self, tensor: Tensor) -> None:
        """Count a tensor's storage, once."""
        for storage in _storages(tensor):
            if storage.data_ptr() not in self._ours:
                self._sizes[storage.data_ptr()] = storage.nbytes()

    def keep_part(self, tensors: Iterable[Tensor]) -> None:
        """Of storages that are kept, count these tensors alone: rows of a larger batch."""
        parts: dict[int, dict[int, int]] = {}
        for tensor in tensors:
            storage = tensor.untyped_storage().data_ptr()
            parts.setdefault(storage, {})[tensor.data_ptr()] = tensor.nbytes
        for storage in parts.keys() & self._sizes.keys():
            self._sizes[storage] = min(self._sizes[storage], sum(parts[storage].values()))

    @property
    def total(self) -> int:
        """Bytes counted so far."""
        return sum(self._sizes.values())

    def _pack(self, tensor: Tensor) -> Tensor:
        self.keep(tensor)
        return tensor.detach()  # the same storage, and no cycle through its own graph

    def __enter__(self) -> "SavedBytes":
        _let_functions_transform()
        self._outer, _THREAD.counting = getattr(_THREAD, "counting", None), self
        self.resume()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.pause()
        _THREAD.counting = self._outer
        if isinstance(error, RuntimeError) and "hooks have already been set" in str(error):
            raise RuntimeError(_ONE_PAIR) from error

    def pause(self) -> None:
        """Count nothing until ``resume``."""
        self._hooks.__exit__()

    def resume(self) -> None:
        """Count what is saved from now on."""
        self._hooks.__enter__()


_THREAD = threading.local()  # ``counting``: the SavedBytes within which this thread is, or None


@cache
def _let_functions_transform() -> None:
    """torch.func.grad and others refuse hooks of saved tensors: pause ours while they run."""
    disable = torch.autograd.graph.disable_saved_tensors_hooks

    @contextmanager
    def disabled(error_message: str) -> Iterator[None]:
        counting: SavedBytes | None = getattr(_THREAD, "counting", None)
        if counting is None:
            with disable(error_message):
                yield
            return
        counting.pause()
        _THREAD.counting = None
        try:
            with disable(error_message):
                yield
        finally:
            _THREAD.counting = counting
            counting.resume()

    torch.autograd.graph.disable_saved_tensors_hooks = disabled


def _storages(tensor: Tensor) -> list[UntypedStorage]:
    """A sparse tensor has several: of its values, and of where they belong."""
    return [part.untyped_storage() for part in parts_of(tensor)]


def parts_of(tensor: Tensor) -> tuple[Tensor, ...]:
    """The dense tensors that a tensor consists of: itself, unless it is sparse.

    Of one that torch.func wraps to transform it, those of the tensor within.
    """
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    match tensor.layout:
        case torch.sparse_coo:
            return tensor._indices(), tensor._values()
        case torch.sparse_csr | torch.sparse_bsr:
            return tensor.crow_indices(), tensor.col_indices(), tensor.values()
        case torch.sparse_csc | torch.sparse_bsc:
            return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
        case torch.strided:
            return () if tensor._is_zerotensor() else (tensor,)  # zeros of torch.func.jvp
    return ()  # of oneDNN: opaque

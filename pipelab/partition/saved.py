"""Bytes that autograd keeps of a forward for its backward."""

from collections.abc import Iterable

import torch
from torch import Tensor, UntypedStorage, nn


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
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)


def _storages(tensor: Tensor) -> list[UntypedStorage]:
    """A sparse tensor has several: of its values, and of where they belong."""
    return [part.untyped_storage() for part in parts_of(tensor)]


def parts_of(tensor: Tensor) -> tuple[Tensor, ...]:
    """The dense tensors that a tensor consists of: itself, unless it is sparse."""
    match tensor.layout:
        case torch.sparse_coo:
            return tensor._indices(), tensor._values()
        case torch.sparse_csr | torch.sparse_bsr:
            return tensor.crow_indices(), tensor.col_indices(), tensor.values()
        case torch.sparse_csc | torch.sparse_bsc:
            return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
        case torch.strided:
            return (tensor,)
    return ()  # of oneDNN: opaque

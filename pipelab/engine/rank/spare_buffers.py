"""Buffers that a repeated forward may change without a trace."""

from torch import nn


class SpareBuffers:
    """Copies of a module's buffers within ``with``: a repeated forward leaves no trace.

    BatchNorm would count its microbatch twice.
    """

    def __init__(self, module: nn.Module):
        self.module = module

    def __enter__(self) -> None:
        self.own = [(m, dict(m._buffers)) for m in self.module.modules() if m._buffers]
        for module, buffers in self.own:
            for name, buffer in buffers.items():
                module._buffers[name] = None if buffer is None else buffer.clone()

    def __exit__(self, *error: object) -> None:
        for module, buffers in self.own:
            module._buffers.update(buffers)

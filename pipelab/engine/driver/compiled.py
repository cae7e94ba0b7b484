"""Compiled layers: a first step that compiles may last longer than ``timeout``; say so."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from pipelab.engine.protocol.commands import Loss
from pipelab.errors import RankTimeout


def compiled_parts(stages: Sequence[nn.Module], loss: Loss) -> dict[int, str]:
    """For each stage that holds something compiled, the first such part in words."""
    found: dict[int, str] = {}
    if _is_compiled(loss) or (isinstance(loss, nn.Module) and _has_compiled(loss)):
        found[len(stages) - 1] = "the loss"
    for number, stage in enumerate(stages):
        for name, layer in reversed([*stage.named_modules()]):
            if _has_compiled(layer):
                found[number] = f"layer {name}"
    return found


@contextmanager
def compilation_named(parts: dict[int, str]) -> Iterator[None]:
    """A RankTimeout of a stage with compiled parts says what may have taken so long."""
    try:
        yield
    except RankTimeout as error:
        part = parts.get(-1 if error.stage is None else error.stage)
        if part is None:
            raise
        text = (
            f"{error}\nStage {error.stage} may have been compiling: {part} is compiled "
            f"(torch.compile), which takes\nminutes in a first step and for each new shape. Give "
            f"Pipeline(..., timeout=600)."
        )
        fields = error.rank, error.action, error.details, error.stage, error.microbatch
        raise RankTimeout(text, *fields) from error


def _has_compiled(layer: nn.Module) -> bool:
    """Whether the module, its methods or a function that it holds was compiled."""
    if isinstance(layer, torch.jit.ScriptModule):
        return False
    parts = (type(layer).forward, *layer.__dict__.values())
    return layer._compiled_call_impl is not None or any(map(_is_compiled, parts))


def _is_compiled(part: object) -> bool:
    return hasattr(part, "_torchdynamo_orig_callable") or type(part).__name__ == "OptimizedModule"

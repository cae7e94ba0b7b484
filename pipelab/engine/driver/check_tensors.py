"""Refuse weights and buffers without values, or of a kind that a rank cannot train."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from pipelab.errors import ModelError
from pipelab.partition.chain import named_layers


def check_tensors(model: nn.Module) -> None:
    """Raise ModelError, with the layer and what to do, for a tensor that cannot be copied."""
    for name, layer in named_layers(model).items():
        where = f"layer {name}, a {type(layer).__name__},"
        for parameter, weight in layer.named_parameters():
            if why := _why_no_parameter(weight):
                raise ModelError(f"{where} cannot be trained on a rank:\n{parameter} {why}")
        for buffer, tensor in layer.named_buffers():
            if why := next(_why_no_tensor(tensor), ""):
                raise ModelError(f"{where} cannot be copied to a rank:\n{buffer} {why}")


def _why_no_parameter(tensor: Tensor) -> str:
    if why := next(_why_no_tensor(tensor), ""):
        return why
    if tensor.layout is not torch.strided:
        return "is a sparse parameter: make it dense, or a buffer if it is not trained"
    if type(tensor) is not nn.Parameter:
        return (
            f"is of the class {type(tensor).__name__}, and a copy would be of another class:\n"
            f"use a plain nn.Parameter"
        )
    return ""


def _why_no_tensor(tensor: Tensor) -> Iterator[str]:
    if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
        yield (
            "is lazy and has no shape yet. Call the model once before (model(inputs[:2])):\n"
            "that makes its weights"
        )
    elif tensor.is_meta:
        yield (
            'is on the device "meta": it has a shape and no values. Make it with\n'
            'model.to_empty(device="cpu"), then load or initialize the weights'
        )
    elif tensor.is_nested:
        yield "is a nested tensor: use a padded one (to_padded_tensor) and a mask"

"""Whether several processes were asked the same: each ran the script, on data of its own making."""

import zlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from pipelab.engine.protocol.commands import Build, Fetch, Load, Run, Use

_SAMPLE = 1024  # numbers of each tensor: an unseeded tensor differs in the first


def fingerprint(commands: Sequence[object]) -> tuple[str, int]:
    """The kind of a call, and a checksum of a sample of its data.

    >>> fingerprint([Fetch("gradients")])[0]
    'Fetch'
    """
    checksum = 0
    for command in commands:
        for tensor in _tensors(command):
            checksum = zlib.crc32(_sample(tensor), zlib.crc32(str(tensor.shape).encode(), checksum))
        checksum = zlib.crc32(_words(command).encode(), checksum)
    return type(commands[0]).__name__, checksum


def _tensors(command: object) -> Iterable[Tensor]:
    match command:
        case Build(stages=stages):
            return (t for module in stages.values() for t in module.state_dict().values())
        case Run(inputs=inputs, targets=targets):
            return (t for x in (inputs, targets) if x is not None for t in x.tensors)
        case Load(parameters=parameters):
            return parameters.values()
    return ()


def _words(command: object) -> str:
    match command:
        case Build(options=options):
            return str(options.place)  # a machine's own GPUs decide it, if the script does not
        case Use(rows=rows):
            return " ".join(action.token for action in rows[True])
        case Fetch(what=what):
            return what
        case Run():
            return f"{command.train} {command.sizes} {command.update} {command.number}"
    return ""


def _sample(tensor: Tensor) -> bytes:
    flat = tensor.detach().reshape(-1)
    chosen = flat[:: max(1, flat.numel() // _SAMPLE)].contiguous()
    return chosen.cpu().view(torch.uint8).numpy().tobytes()

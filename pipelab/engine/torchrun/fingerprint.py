"""Whether all processes make the same calls on the same data: each runs the whole script."""

import zlib
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from pipelab.engine.protocol.commands import Build, Fetch, Load, Run, Use
from pipelab.errors import RankError
from pipelab.partition.tree import raw_bytes

Fingerprint = tuple[str, int]
"""The kind of a call, and a checksum of a sample of its data."""

_SAMPLE = 1024  # numbers of each tensor: an unseeded tensor differs in the first
_CALLS = {  # what each asks a rank to do, and the data that it comes with
    "Build": ("open a pipeline", "model, or device,"),
    "Use": ("use a schedule", "schedule"),
    "Run": ("run a batch", "batch"),
    "Fetch": ("give its state or gradients", "question"),
    "Load": ("load a state", "state"),
}
_SCRIPT = "Under torchrun every process runs the whole script: "


def fingerprint(commands: Sequence[object]) -> Fingerprint:
    """The fingerprint of a call with these commands.

    >>> fingerprint([Fetch("gradients")])[0]
    'Fetch'
    """
    checksum = 0
    for command in commands:
        for tensor in _tensors(command):
            checksum = zlib.crc32(_sample(tensor), zlib.crc32(str(tensor.shape).encode(), checksum))
        checksum = zlib.crc32(_words(command).encode(), checksum)
    return type(commands[0]).__name__, checksum


def difference(asked: Mapping[int, Fingerprint]) -> RankError | None:
    """The error to raise where two ranks make different calls; None if all make the same.

    ``asked``: the fingerprint of each rank that has answered.
    """
    first = min(asked)
    kind, checksum = asked[first]
    for rank, (other, other_checksum) in sorted(asked.items()):
        if other != kind:
            return RankError(
                f"rank {rank} was asked to {_call(other)[0]} when rank {first} was asked to "
                f"{_call(kind)[0]}.\n{_SCRIPT}let all make the same calls in the same order, also\n"
                f"where only one of them prints the result.",
                rank,
            )
        if other_checksum != checksum:
            return RankError(
                f"rank {rank} has another {_call(kind)[1]} than rank {first}.\n"
                f"{_SCRIPT}let all make the same data and models; seed them\n"
                f"(torch.manual_seed(0)), and shard nothing by rank.",
                rank,
            )
    return None


def _call(kind: str) -> tuple[str, str]:
    return _CALLS.get(kind, (f"do {kind}", "command"))


def _tensors(command: object) -> Iterable[Tensor]:
    match command:
        case Build(stages=stages):
            states = [module.state_dict() for module in stages.values()]
            return (t for state in states for t in state.values() if isinstance(t, Tensor))
        case Run(inputs=inputs, targets=targets):
            return (t for x in (inputs, targets) if x is not None for t in x.tensors)
        case Load(parameters=parameters):
            return (t for t in parameters.values() if isinstance(t, Tensor))
    return ()


def _words(command: object) -> str:
    match command:
        case Build(options=options):
            return str(options.place)  # a machine's own GPUs decide it, if the script does not
        case Use(rows=rows, overlaps=overlaps):
            together = sorted(both.token for both in overlaps)
            return " ".join([*(action.token for action in rows[True]), *together])
        case Fetch(what=what):
            return what
        case Run():
            run = command.train, command.sizes, command.update, command.number
            return f"{run} {command.output_dim} {command.signature}"
    return ""


def _sample(tensor: Tensor) -> bytes:
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    tensor = tensor.resolve_conj().resolve_neg()
    flat = tensor.detach().reshape(-1)
    chosen = flat[:: max(1, flat.numel() // _SAMPLE)].contiguous()
    return raw_bytes(chosen.cpu()).numpy().tobytes()

"""PyTorch's settings while a check runs: the usual ones, whatever the notebook has set."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from pipelab.engine.protocol.process_settings import TABLE

_USUAL = {
    "default_dtype": torch.float32,
    "deterministic": 0,
    "flush_denormal": False,
    "anomaly": (False, True),
    "check_sparse_tensor_invariants": False,
    "float32_matmul_precision": "highest",
}


@contextmanager
def usual_settings() -> Iterator[None]:
    """Ordinary tensors of float32 on the CPU, with gradients; afterwards what was set before."""
    with ExitStack() as before:
        before.enter_context(torch.inference_mode(False))
        before.enter_context(torch.enable_grad())
        before.enter_context(torch.autocast("cpu", enabled=False))
        before.enter_context(torch.device("cpu"))
        for row in TABLE:
            if row.name in _USUAL and (value := row.get()) != _USUAL[row.name]:
                row.set(_USUAL[row.name])
                before.callback(row.set, value)
        yield

"""Whether ranks launch here, and how fast: they are launched."""

import time
from collections.abc import Callable, Iterator
from functools import partial

from pipelab.cli.findings import Finding
from pipelab.errors import PipelabError
from pipelab.words import number, time_text

MICROBATCHES = 8


def launches(num_ranks: int, since: float, note: str) -> Iterator[Finding]:
    """Launch, take a first step and some more.

    Args:
        since: when the launch began, on the monotonic clock; a program's first one begins with
            the start of its fork server.
        note: what the launch's time holds.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from pipelab.engine import Pipeline
    from pipelab.models import mlp
    from pipelab.schedules import one_f_one_b

    schedule = one_f_one_b(num_ranks, MICROBATCHES)
    inputs, targets = torch.randn(32, 16), torch.randint(10, (32,))
    optimizer = partial(torch.optim.SGD, lr=0.1)
    name = number(num_ranks, "rank")
    try:
        with Pipeline(mlp(), schedule, loss=cross_entropy, optimizer=optimizer) as pipeline:
            up = time.monotonic() - since
            times = [_seconds(lambda: pipeline.step(inputs, targets)) for _ in range(10)]
    except PipelabError as error:
        remedy = "look for what stops processes here: memory, limits, or a sandbox"
        yield Finding("FAIL", name, str(error), remedy)
        return
    first, warm = times[0], sorted(times[1:])[len(times) // 2]
    text = f"up after {time_text(up)} ({note}); a tiny step of {MICROBATCHES} microbatches takes "
    yield Finding("ok", name, f"{text}{time_text(first)} at first, then {time_text(warm)}")


def _seconds(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start

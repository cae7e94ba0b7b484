"""Real English to train on: Python's own reference, which every CPython carries.

The text differs a little between Python versions, so a loss is compared with its own start.
"""

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor


@cache
def topics() -> Tensor:
    """The pages of ``help("topics")`` as one row of bytes, about 465,000 of them (uint8)."""
    from pydoc_data.topics import topics as pages

    text = "\n\n".join(pages[name] for name in sorted(pages))
    return torch.frombuffer(bytearray(text.encode("utf-8")), dtype=torch.uint8)


def batches(rows: int, context: int, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (inputs, targets), both (rows, context) of int64; a target is the next byte."""
    text, generator = topics(), torch.Generator().manual_seed(seed)
    offsets = torch.arange(context + 1)
    while True:
        starts = torch.randint(len(text) - context, (rows, 1), generator=generator)
        window = text[starts + offsets].long()
        yield window[:, :-1].contiguous(), window[:, 1:].contiguous()

"""Which cases a bench measures, as its command line says it."""

import argparse
import os
from contextlib import suppress
from itertools import product
from math import inf
from pathlib import Path

from pipelab.bench.step import SCHEDULES, Case
from pipelab.bench.workloads import WORKLOADS

SMALLEST = Case("mlp", "1f1b", num_ranks=2, num_blocks=3, block_seconds=0.05)


def add_case_options(bench: argparse.ArgumentParser) -> None:
    """The lists whose combinations are measured; each has a default."""
    bench.add_argument("--quick", action="store_true", help="the smallest case alone")
    bench.add_argument("--models", nargs="+", choices=[*WORKLOADS],
                       default=["tiny gpt", "medium gpt"])  # fmt: skip
    bench.add_argument("--ranks", nargs="+", type=count, default=[2, 4])
    bench.add_argument("--microbatches", nargs="+", type=count, default=[8])
    bench.add_argument("--schedules", nargs="+", choices=SCHEDULES, default=["gpipe", "1f1b"])
    bench.add_argument("--blocks", type=count, default=5, help="blocks of steps on each side")
    bench.add_argument("--seconds", type=seconds, default=0.1, help="length of one block")
    bench.add_argument("--limit", action="store_true",
                       help="time the computation alone, too")  # fmt: skip
    bench.add_argument(
        "--torch-affinity",
        "--pin-torch",  # its earlier name
        action="store_true",
        help="keep each of torch's ranks on a core",
    )


def cases(options: argparse.Namespace) -> list[Case]:
    """All combinations, by ranks first, so that torch's ranks need few launches."""
    if options.quick:
        return [SMALLEST._replace(torch_affinity=options.torch_affinity, limit=options.limit)]
    return [
        Case(
            model,
            schedule,
            p,
            m,
            options.blocks,
            options.seconds,
            options.torch_affinity,
            options.limit,
        )
        for p, model in product(options.ranks, options.models)
        for schedule, m in product(options.schedules, options.microbatches)
    ]


def count(text: str) -> int:
    """A number of 1 or more, from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def seconds(text: str) -> float:
    """A time above 0, from the command line."""
    with suppress(ValueError):
        if 0 < float(text) < inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a time above 0: write seconds, such as 0.1")


def add_json_option(bench: argparse.ArgumentParser) -> None:
    """``--json PATH``: a file that can be written is better known before minutes of measuring."""
    bench.add_argument("--json", type=_new_file, metavar="PATH", help="write all numbers there")


def _new_file(text: str) -> Path:
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder: name a file")
    if not os.access(Path(text).parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"no file can be written in {Path(text).parent}")
    return Path(text)

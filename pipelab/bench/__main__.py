"""``python -m pipelab.bench launch`` and ``python -m pipelab.bench step``."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelab.bench.launch import bench_launch
from pipelab.bench.ratio import machine, table
from pipelab.bench.step import HEAD, WORKLOADS, Case, bench_case, row
from pipelab.errors import PipelabError
from pipelab.trace.trace import write_whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one bench; 0 if it ran to its end, 1 if it could not."""
    options = _parser().parse_args(arguments)
    print(", ".join(f"{what} {value}" for what, value in machine().items()))
    try:
        result = _step(options) if options.bench == "step" else _launch(options)
    except PipelabError as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        write_whole(options.json, json.dumps(result, indent=1))
    return 0


def _launch(options: argparse.Namespace) -> dict[str, object]:
    result = bench_launch(options.num_ranks, options.repeats)
    print(result)
    return result.to_json()


def _step(options: argparse.Namespace) -> dict[str, object]:
    about = machine()
    results = []
    for case in _cases(options):
        results.append(bench_case(case))
        print(table(HEAD, [row(results[-1])]).splitlines()[-1], flush=True)
    print("\n" + table(HEAD, [row(result) for result in results]))
    return {
        "bench": "step",
        "machine": about,
        "settings": {"optimizer": "SGD, lr 0.01", "recording": True, "backend": "gloo"},
        "cases": [result.to_json() for result in results],
    }


def _cases(options: argparse.Namespace) -> list[Case]:
    if options.quick:
        return [Case("mlp", schedule, 2, 3, 0.05) for schedule in ("gpipe", "1f1b")]
    return [
        Case(model, schedule, num_ranks, options.blocks, options.seconds)
        for model in options.models
        for num_ranks in options.num_ranks
        for schedule in ("gpipe", "1f1b")
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelab.bench", description=__doc__)
    benches = parser.add_subparsers(dest="bench", required=True)
    launch = benches.add_parser("launch", help="ranks up and joined, against torchrun's")
    launch.add_argument("--ranks", dest="num_ranks", type=int, default=4)
    launch.add_argument("--repeats", type=int, default=5)
    step = benches.add_parser("step", help="one step, against torch.distributed.pipelining")
    step.add_argument("--quick", action="store_true", help="the smallest case alone")
    step.add_argument("--models", nargs="+", choices=[*WORKLOADS], default=[*WORKLOADS])
    step.add_argument("--ranks", dest="num_ranks", nargs="+", type=int, default=[2, 4])
    step.add_argument("--blocks", type=int, default=15, help="blocks of steps on each side")
    step.add_argument("--seconds", type=float, default=0.3, help="length of one block")
    for bench in (launch, step):
        bench.add_argument("--json", type=Path, metavar="PATH", help="write all numbers there")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""``python -m pipelab.bench launch`` and ``python -m pipelab.bench step``."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from pipelab.bench.cases import add_case_options, add_json_option, cases, count
from pipelab.bench.launch import bench_launch
from pipelab.bench.ratio import described, machine
from pipelab.bench.step import StepResult, bench_cases, mean_of, step_table
from pipelab.errors import PipelabError
from pipelab.files import replace_text

Bench = Callable[[argparse.Namespace], dict[str, object]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one bench; 0 if it ran to its end, 1 if it could not."""
    return run(_parser(), arguments)


def run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Run the bench that the options name in ``run``, and write its numbers where they say."""
    options = parser.parse_args(arguments)
    bench: Bench = options.run
    try:
        result = bench(options)
    except PipelabError as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        replace_text(options.json, json.dumps(result, indent=1))
    return 0


def _launch(options: argparse.Namespace) -> dict[str, object]:
    result = bench_launch(options.ranks, options.repeats, options.opened)
    print(described(result.machine))
    print(result)
    return result.to_json()


def step(options: argparse.Namespace) -> dict[str, object]:
    """Measure the cases chosen, show their table, and return all numbers."""
    about = machine()
    print(described(about), flush=True)
    chosen, results = cases(options), list[StepResult]()
    try:
        for result in bench_cases(chosen):
            results.append(result)
            found = result.ratio or result.refusal
            print(f"{len(results)}/{len(chosen)} {result.case[:4]}: {found}", file=sys.stderr)
    finally:  # what was measured before a failure, or a Ctrl-C, is worth reading
        print(step_table(results))
    return {
        "bench": "step",
        "machine": about,
        "settings": {
            "optimizer": "SGD, lr 0.01",
            "recording": True,
            "backend": "gloo",
            "torch_affinity": options.torch_affinity,
        },
        "cases": [result.to_json() for result in results],
        "geometric_mean": {
            model: mean_of([r for r in results if r.case.workload == model])
            for model in dict.fromkeys(case.workload for case in chosen)
        },
    }


class _Moved(argparse.Action):
    """``--grid``: says where it is now, and leaves with exit code 2."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: object) -> NoReturn:
        parser.exit(2, "--grid is now another command: python -m tests.benchmarks grid\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelab.bench", description=__doc__)
    benches = parser.add_subparsers(dest="bench", required=True)
    launch = benches.add_parser("launch", help="ranks up and joined, against torchrun's")
    launch.set_defaults(run=_launch)
    launch.add_argument("--ranks", type=count, default=4)
    launch.add_argument("--repeats", type=count, default=5)
    launch.add_argument("--opened", type=count, default=15, help="pipelines, for the first step")
    steps = benches.add_parser("step", help="one step, against torch.distributed.pipelining")
    steps.set_defaults(run=step)
    add_case_options(steps)
    steps.add_argument("--grid", action=_Moved, nargs=0, help=argparse.SUPPRESS)
    for bench in benches.choices.values():
        add_json_option(bench)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""``python -m pipelab.bench launch``, ``step``, ``memory``, ``tracing``, ``soak``, ``simulate``."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelab.bench import grid
from pipelab.bench.launch import bench_launch
from pipelab.bench.memory import bench_memory, memory_table
from pipelab.bench.ratio import described, machine
from pipelab.bench.simulate import SIZES, bench_simulate
from pipelab.bench.soak import bench_soak, soak_table
from pipelab.bench.step import SCHEDULES, Case, StepResult, bench_cases
from pipelab.bench.tracing import bench_tracing, tracing_table
from pipelab.bench.workloads import WORKLOADS
from pipelab.errors import PipelabError
from pipelab.files import replace_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one bench; 0 if it ran to its end, 1 if it could not."""
    options = _parser().parse_args(arguments)
    run = {
        "launch": _launch,
        "step": _step,
        "memory": _memory,
        "simulate": _simulate,
        "tracing": _tracing,
        "soak": _soak,
    }[options.bench]
    try:
        result = run(options)
    except PipelabError as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        replace_text(options.json, json.dumps(result, indent=1))
    return 0


def _launch(options: argparse.Namespace) -> dict[str, object]:
    result = bench_launch(options.num_ranks, options.repeats)
    print(described(result.machine))
    print(result)
    return result.to_json()


def _step(options: argparse.Namespace) -> dict[str, object]:
    about = machine()
    print(described(about), flush=True)
    cases, results = _cases(options), list[StepResult]()
    try:
        for result in bench_cases(cases):
            results.append(result)
            found = result.ratio or result.refusal
            print(f"{len(results)}/{len(cases)} {result.case[:4]}: {found}", file=sys.stderr)
    finally:  # what was measured before a failure, or a Ctrl-C, is worth reading
        print(grid.step_table(results))
    return {
        "bench": "step",
        "machine": about,
        "settings": {
            "optimizer": "SGD, lr 0.01",
            "recording": True,
            "backend": "gloo",
            "torch_pinned": options.pin_torch,
        },
        "cases": [result.to_json() for result in results],
        "geometric_mean": {
            model: grid.mean_of([r for r in results if r.case.workload == model])
            for model in dict.fromkeys(case.workload for case in cases)
        },
    }


def _memory(options: argparse.Namespace) -> dict[str, object]:
    about = machine()
    print(described(about), flush=True)
    results = [bench_memory(case) for case in _cases(options)]
    print(memory_table(results))
    return {"bench": "memory", "machine": about, "cases": [r.to_json() for r in results]}


def _tracing(options: argparse.Namespace) -> dict[str, object]:
    about = machine()
    print(described(about), flush=True)
    results = [
        bench_tracing(model, num_ranks, options.blocks, options.seconds)
        for model in options.models
        for num_ranks in options.num_ranks
    ]
    print(tracing_table(results))
    return {"bench": "tracing", "machine": about, "cases": [r.to_json() for r in results]}


def _soak(options: argparse.Namespace) -> dict[str, object]:
    about = machine()
    print(described(about), flush=True)
    parts = bench_soak(options.opened, options.steps, options.at_once)
    print(soak_table(parts))
    if not all(part.is_clean for part in parts):
        raise PipelabError("something is left behind: see the table")
    return {"bench": "soak", "machine": about, "parts": [part._asdict() for part in parts]}


def _simulate(options: argparse.Namespace) -> dict[str, object]:
    result = bench_simulate(SIZES[:2] if options.quick else SIZES, options.repeats)
    print(described(result.machine))
    print(result)
    return result.to_json()


def _cases(options: argparse.Namespace) -> list[Case]:
    """What is measured: the options' points, or in a word the smallest, or all."""
    if options.quick:
        return [Case("mlp", "1f1b", 2, 8, 3, 0.05, options.pin_torch)]
    chosen = {
        name: getattr(options, name)
        for name in ("models", "num_ranks", "num_microbatches", "schedules", "blocks", "seconds")
        if getattr(options, name) is not None
    }
    few = {"num_ranks": [2, 4], "num_microbatches": [8], "schedules": ["gpipe", "1f1b"]}
    return grid.points(**{**({} if options.grid else few), **chosen}, pin_torch=options.pin_torch)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipelab.bench", description=__doc__)
    benches = parser.add_subparsers(dest="bench", required=True)
    launch = benches.add_parser("launch", help="ranks up and joined, against torchrun's")
    launch.add_argument("--ranks", dest="num_ranks", type=_count, default=4)
    launch.add_argument("--repeats", type=_count, default=5)
    step = benches.add_parser("step", help="one step, against torch.distributed.pipelining")
    memory = benches.add_parser("memory", help="bytes of each rank, against the same")
    for bench in (step, memory):
        _add_points(bench)
    tracing = benches.add_parser("tracing", help="a step that is recorded, against one that is not")
    tracing.add_argument("--models", nargs="+", choices=[*WORKLOADS], default=[*WORKLOADS])
    tracing.add_argument("--ranks", dest="num_ranks", nargs="+", type=_count, default=[2, 4])
    tracing.add_argument("--blocks", type=_count, default=15, help="blocks of steps on each side")
    tracing.add_argument("--seconds", type=float, default=0.3, help="length of one block")
    simulate = benches.add_parser("simulate", help="does the time per action stay flat?")
    simulate.add_argument("--quick", action="store_true", help="the two smallest sizes alone")
    simulate.add_argument("--repeats", type=_count, default=3)
    soak = benches.add_parser(
        "soak", help="pipelines opened, stepped and crowded: is anything left?"
    )
    soak.add_argument("--opened", type=_count, default=200)
    soak.add_argument("--steps", type=_count, default=2000)
    soak.add_argument("--at-once", type=_count, default=30)
    for bench in benches.choices.values():
        bench.add_argument("--json", type=_new_file, metavar="PATH", help="write all numbers there")
    return parser


def _add_points(bench: argparse.ArgumentParser) -> None:
    """Which cases: one, a few, or the whole grid."""
    bench.add_argument("--quick", action="store_true", help="the smallest case alone")
    bench.add_argument("--grid", action="store_true", help="all: about ten minutes of steps")
    bench.add_argument("--models", nargs="+", choices=[*WORKLOADS])
    bench.add_argument("--ranks", dest="num_ranks", nargs="+", type=_count)
    bench.add_argument("--microbatches", dest="num_microbatches", nargs="+", type=_count)
    bench.add_argument("--schedules", nargs="+", choices=SCHEDULES)
    bench.add_argument("--blocks", type=_count, help="blocks of steps on each side")
    bench.add_argument("--seconds", type=float, help="length of one block")
    bench.add_argument("--pin-torch", action="store_true", help="keep each of its ranks on a core")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return int(text)


def _new_file(text: str) -> Path:
    """A path that can be written; better known now than after minutes of measuring."""
    if not os.access(Path(text).parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"no file can be written in {Path(text).parent}")
    return Path(text)


if __name__ == "__main__":
    sys.exit(main())

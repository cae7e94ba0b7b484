"""``python -m tests.benchmarks``: ``grid``, ``messages``, ``memory``, ``recording``..."""

import argparse
import sys
from collections.abc import Sequence

from pipelab.bench.__main__ import run, step
from pipelab.bench.cases import add_case_options, add_json_option, cases, count, seconds
from pipelab.bench.ratio import described, machine
from pipelab.bench.step import SCHEDULES
from pipelab.bench.workloads import WORKLOADS
from pipelab.errors import PipelabError
from tests import benchmarks
from tests.benchmarks.memory import bench_memory, memory_table
from tests.benchmarks.messages import bench_messages, messages_table
from tests.benchmarks.page import bench_page, page_table
from tests.benchmarks.playground import bench_playground, playground_table
from tests.benchmarks.recording import bench_recording, recording_table
from tests.benchmarks.simulate import SIZES, bench_simulate
from tests.benchmarks.soak import bench_soak, soak_table
from tests.benchmarks.tracing import bench_tracing, tracing_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; 0 if it ran to its end, 1 if it could not."""
    return run(parser(), arguments)


def messages(options: argparse.Namespace) -> dict[str, object]:
    about = machine()
    print(described(about), flush=True)
    rows = bench_messages(options.blocks, options.turns)
    print(messages_table(rows))
    return {"bench": "messages", "machine": about, "rows": [row.to_json() for row in rows]}


def memory(options: argparse.Namespace) -> dict[str, object]:
    about = machine()
    print(described(about), flush=True)
    results = [bench_memory(case) for case in cases(options)]
    print(memory_table(results))
    return {"bench": "memory", "machine": about, "cases": [r.to_json() for r in results]}


def tracing(options: argparse.Namespace) -> dict[str, object]:
    about = machine()
    print(described(about), flush=True)
    results = [
        bench_tracing(model, num_ranks, options.blocks, options.seconds)
        for model in options.models
        for num_ranks in options.ranks
    ]
    print(tracing_table(results))
    return {"bench": "tracing", "machine": about, "cases": [r.to_json() for r in results]}


def recording(options: argparse.Namespace) -> dict[str, object]:
    about = machine()
    print(described(about), flush=True)
    results = [
        bench_recording(model, schedule, 4, options.microbatches, options.blocks, options.seconds)
        for model in options.models
        for schedule in options.schedules
    ]
    print(recording_table(results))
    return {"bench": "recording", "machine": about, "cases": [r.to_json() for r in results]}


def soak(options: argparse.Namespace) -> dict[str, object]:
    about = machine()
    print(described(about), flush=True)
    parts = bench_soak(options.opened, options.steps, options.at_once)
    print(soak_table(parts))
    if not all(part.is_clean for part in parts):
        raise PipelabError("something is left behind: see the table")
    return {"bench": "soak", "machine": about, "parts": [part._asdict() for part in parts]}


def simulate(options: argparse.Namespace) -> dict[str, object]:
    result = bench_simulate(SIZES[:2] if options.quick else SIZES, options.repeats)
    print(described(result.machine))
    print(result)
    return result.to_json()


def page(options: argparse.Namespace) -> dict[str, object]:
    about = machine()
    print(described(about), flush=True)
    results = [
        bench_page(options.schedule, p, m, options.runs)
        for p in options.ranks
        for m in options.microbatches
    ]
    print(page_table(results))
    return {"bench": "page", "machine": about, "cases": [r.to_json() for r in results]}


def playground(options: argparse.Namespace) -> dict[str, object]:
    about = machine()
    print(described(about), flush=True)
    results = [bench_playground(p, m) for p, m in options.sizes]
    print(playground_table(results))
    return {"bench": "playground", "machine": about, "cases": [r.to_json() for r in results]}


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=benchmarks.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    benches = root.add_subparsers(dest="bench", required=True)
    grid = benches.add_parser("grid")
    add_case_options(grid)
    grid.set_defaults(
        run=step, ranks=[2, 4, 8], microbatches=[4, 8, 16, 32], schedules=[*SCHEDULES]
    )
    for bench in (messages, memory, tracing, recording, soak, simulate, page, playground):
        benches.add_parser(bench.__name__).set_defaults(run=bench)
    command = benches.choices["messages"]
    command.add_argument("--blocks", type=count, default=9, help="blocks of each size and way")
    command.add_argument("--turns", type=count, default=30, help="there and back in one block")
    add_case_options(benches.choices["memory"])
    command = benches.choices["tracing"]
    command.add_argument("--models", nargs="+", choices=[*WORKLOADS], default=[*WORKLOADS])
    command.add_argument("--ranks", nargs="+", type=count, default=[2, 4])
    command.add_argument("--blocks", type=count, default=15, help="blocks of steps on each side")
    command.add_argument("--seconds", type=seconds, default=0.3, help="length of one block")
    command = benches.choices["recording"]
    command.add_argument("--models", nargs="+", choices=[*WORKLOADS], default=["medium gpt"])
    command.add_argument("--schedules", nargs="+", choices=SCHEDULES, default=["1f1b", "gpipe"])
    command.add_argument("--microbatches", type=count, default=8)
    command.add_argument("--blocks", type=count, default=60, help="blocks of steps on each side")
    command.add_argument("--seconds", type=seconds, default=0.15, help="length of one block")
    command = benches.choices["soak"]
    command.add_argument("--opened", type=count, default=200)
    command.add_argument("--steps", type=count, default=2000)
    command.add_argument("--at-once", type=count, default=30)
    command = benches.choices["simulate"]
    command.add_argument("--quick", action="store_true", help="the two smallest sizes alone")
    command.add_argument("--repeats", type=count, default=3)
    command = benches.choices["page"]
    command.add_argument("--schedule", default="gpipe")
    command.add_argument("--ranks", nargs="+", type=count, default=[4])
    command.add_argument("--microbatches", nargs="+", type=count, default=[12])
    command.add_argument("--runs", type=count, default=8)
    benches.choices["playground"].set_defaults(sizes=[(4, 8), (8, 16)])
    for command in benches.choices.values():
        add_json_option(command)
    return root


if __name__ == "__main__":
    sys.exit(main())

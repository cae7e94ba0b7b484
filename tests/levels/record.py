"""Record the levels on real ranks: ``python -m tests.levels.record``; some: ``... the-v``.

Of each level an order at par runs paced with the level's costs, after every gradient was compared
with one process. Of a few steps the one is kept that the machine's other work disturbed least. Do
it on a quiet machine.
"""

import json
import sys
from dataclasses import replace
from functools import partial

import torch

from pipelab.engine import Pipeline, verify_gradients
from pipelab.levels import LEVELS
from pipelab.levels.level import Level
from pipelab.levels.orders import best_orders
from pipelab.levels.real_runs import FOLDER
from pipelab.models import mlp
from pipelab.schedules import Schedule
from pipelab.trace import Trace, least_disturbed

STEPS = 12
WIDTH, LAYERS, ROWS = 64, 15, 96


def order_of_level(level: Level) -> Schedule:
    """The best order that has the name of the level's schedule, or any of the best."""
    named = [each for each in best_orders(level) if each.name == level.schedule]
    return named[0] if named else replace(best_orders(level)[0], name=level.name)


def record(level: Level) -> tuple[Trace, int, int]:
    """The recording, how many parameters' gradients are exact, and how many there are."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = mlp(WIDTH, LAYERS, features=WIDTH)
    inputs, targets = torch.randn(ROWS, WIDTH), torch.randint(10, (ROWS,))
    loss = torch.nn.functional.cross_entropy
    schedule = order_of_level(level)
    report = verify_gradients(model, schedule, inputs, targets, loss)
    assert report.ok, f"{level.name}:\n{report}"
    with Pipeline(
        model,
        schedule,
        loss=loss,
        optimizer=partial(torch.optim.SGD, lr=0.1),
        pace=level.cost_of(schedule),
    ) as pipeline:
        traces = [pipeline.step(inputs, targets).trace for _ in range(STEPS)]
    exact = sum(row.exact for row in report.parameters)
    return least_disturbed(traces[1:]), exact, len(report.parameters)


def main(names: list[str]) -> None:
    """Record the levels of these names, or all."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / "gradients.json"
    facts = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    for level in LEVELS:
        if names and level.name not in names:
            continue
        trace, exact, parameters = record(level)
        trace.save(FOLDER / f"{level.name}.json")
        facts[level.name] = [exact, parameters]
        took, lost = trace.duration * 1000, trace.setting.lost * 1000
        print(
            f"{level.name}: {took:.1f} ms, par {level.par * 1000:.0f}, lost {lost:.1f} ms",
            flush=True,
        )
        path.write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

"""The same plan on torch.distributed.pipelining under torchrun, without pipelab's engine.

``torch_script.py`` is what each rank runs. Nothing is paced or recorded: what counts is that
parameters and losses are the same.
"""

import inspect
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pipelab.engine.torchrun.private_run import run_privately
from pipelab.lessons import plan_run
from pipelab.lessons.plans import Plan, schedule_of
from pipelab.notice import noticed

__all__ = ["Place", "TorchRun", "run_on_torch", "script"]

Place = Mapping[str, object]
"""Of one rank: ``stage``, ``layers`` (first, end), and two lists: ``pp_group``, ``dp_group``."""

_SCRIPT = Path(__file__).with_name("torch_script.py")
_LOADED = ("torch.distributed.pipelining", "pipelab.models")  # what the script imports
_TIMEOUT = 120.0  # seconds: torch alone takes some to load, on a busy machine


class TorchRun(NamedTuple):
    """What the ranks of torchrun wrote.

    Attributes:
        plan: that they followed.
        losses: of each step, averaged over replicas.
        parameters: after the last step, beside those of one process.
    """

    plan: Plan
    losses: tuple[float, ...]
    parameters: plan_run.Comparison


def script(function: str) -> str:
    """The source of one function of the script."""
    lines = _SCRIPT.read_text("utf-8").splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if line.startswith(f"def {function}("))
    return "".join(inspect.getblock(lines[first:])).rstrip()


def run_on_torch(plan: Plan, places: Sequence[Place]) -> TorchRun:
    """Three steps of SGD of the tiny GPT, by PyTorch's own runtime.

    Args:
        plan: its schedule travels as a CSV file, its microbatches as a number.
        places: one for each rank, by torchrun's numbers.

    Raises:
        LaunchError: the ranks did not end, or not with success; with their last lines.
    """
    plan = Plan(*plan)
    job = {
        "places": [dict(place) for place in places],
        "microbatches": plan.microbatches,
        "size": (plan_run.WIDTH, plan_run.BLOCKS, plan_run.HEADS, plan_run.CONTEXT),
        "rows": plan_run.ROWS,
        "steps": plan_run.STEPS,
        "rate": plan_run.RATE,
        "momentum": plan_run.MOMENTUM,
        "seed": plan_run.SEED,
        "timeout": _TIMEOUT / 2,
    }
    with tempfile.TemporaryDirectory(prefix="pipelab-torchrun-") as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(job), "utf-8")
        (folder / "schedule.csv").write_text(schedule_of(plan).to_csv(), "utf-8")
        with noticed(f"torchrun loads PyTorch, and starts {len(places)} processes"):
            run_privately(_SCRIPT, len(places), folder, timeout=_TIMEOUT, loaded=_LOADED)
        found = [torch.load(folder / f"rank-{rank}.pt") for rank in range(len(places))]
    state: dict[str, Tensor] = {k: v for part in found for k, v in part["parameters"].items()}
    rows = [part["losses"] for part in found if part["losses"][-1] is not None]
    losses = tuple(sum(step) / len(rows) for step in zip(*rows, strict=True))
    return TorchRun(plan, losses, plan_run.compare(state))

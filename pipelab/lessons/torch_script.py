"""What torchrun starts, once per rank: the same training by torch.distributed.pipelining alone.

A script that nothing imports. Of pipelab it has the model and the text; who runs which layers, with
whom and in which order is in two files, and the rest is PyTorch.

    torch_script.py FOLDER    reads   FOLDER/job.json, FOLDER/schedule.csv
                              writes  FOLDER/rank-N.pt: parameters by their names, and the losses
"""

import json
import os
import sys
from collections import OrderedDict
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import _PipelineScheduleRuntime

from pipelab.models import batches, next_byte_loss, tiny_gpt


def main(folder: Path) -> None:
    """Be one rank of torchrun's."""
    rank, job = int(os.environ["RANK"]), json.loads((folder / "job.json").read_text("utf-8"))
    torch.set_num_threads(1)
    meeting_point = (folder / "meeting-point").as_uri()
    world, wait = int(os.environ["WORLD_SIZE"]), timedelta(seconds=job["timeout"])
    dist.init_process_group("gloo", meeting_point, wait, world, rank)
    layers, batch = own_part(job, rank)
    found = train(job, rank, layers, batch, folder / "schedule.csv")
    torch.save(found, folder / f"rank-{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def own_part(job: dict[str, Any], rank: int) -> tuple[nn.Sequential, tuple[Any, Any]]:
    """This rank's layers, under the model's own names, and its replica's rows of the batch."""
    place = job["places"][rank]
    first, end = place["layers"]
    torch.manual_seed(job["seed"])
    model = tiny_gpt(*job["size"])
    layers = nn.Sequential(OrderedDict([*model.named_children()][first:end]))
    pipelines = sorted({tuple(other["pp_group"]) for other in job["places"]})
    inputs, targets = next(batches(job["rows"], job["size"][3], job["seed"]))
    replica = pipelines.index(tuple(place["pp_group"]))
    rows = job["rows"] // len(pipelines)
    own = slice(replica * rows, (replica + 1) * rows)
    return layers, (inputs[own], targets[own])


def train(
    job: dict[str, Any], rank: int, layers: nn.Sequential, batch: tuple[Any, Any], schedule: Path
) -> dict[str, Any]:
    """Some steps of SGD; parameters, and the losses where this rank has the last stage."""
    places = job["places"]
    pp_group = joined([place["pp_group"] for place in places], rank)
    dp_group = joined([place["dp_group"] for place in places], rank)
    number, stages = places[rank]["stage"], len(places[rank]["pp_group"])
    order = in_order(schedule, places[rank]["pp_group"], rank)
    runtime = runtime_of(layers, number, stages, pp_group, job["microbatches"], order)
    sgd = torch.optim.SGD(layers.parameters(), lr=job["rate"], momentum=job["momentum"])
    inputs = [batch[0]] if number == 0 else []
    losses = [step(runtime, inputs, batch[1], sgd, layers, dp_group) for _ in range(job["steps"])]
    return {"parameters": dict(layers.named_parameters()), "losses": losses}


def runtime_of(
    layers: nn.Module, number: int, stages: int, pp_group: Any, microbatches: int, schedule: Path
) -> Any:
    """PyTorch's stage and runtime, which follows the schedule of the file."""
    stage = PipelineStage(layers, number, stages, torch.device("cpu"), group=pp_group)
    runtime: Any = _PipelineScheduleRuntime([stage], microbatches, loss_fn=next_byte_loss)  # type: ignore[no-untyped-call]
    runtime._load_csv(str(schedule), format="compute_only")
    return runtime


def in_order(schedule: Path, pp_group: list[int], rank: int) -> Path:
    """The schedule, a row for each stage, with its rows as PyTorch sorts the group's ranks."""
    rows = schedule.read_text("utf-8").splitlines()
    own = schedule.with_name(f"schedule-{rank}.csv")
    own.write_text("\n".join(row for _, row in sorted(zip(pp_group, rows, strict=True))), "utf-8")
    return own


def step(
    runtime: Any, inputs: Any, targets: Any, sgd: Any, layers: nn.Module, dp_group: Any
) -> float | None:
    """One training step; the mean loss of this replica, on the rank of its last stage."""
    losses: list[torch.Tensor] = []
    sgd.zero_grad()
    runtime.step(*inputs, target=targets, losses=losses)
    for gradient in (p.grad for p in layers.parameters() if p.grad is not None):
        dist.all_reduce(gradient, group=dp_group)
        gradient /= dist.get_world_size(dp_group)
    sgd.step()
    return torch.stack(losses).mean().item() if losses else None


def joined(groups: list[list[int]], rank: int) -> Any:
    """This rank's group. All ranks make all groups, in the same order.

    Two ranks may name the ranks of one group in another order: PyTorch sorts them.
    """
    distinct = sorted({tuple(sorted(group)) for group in groups})
    made = {group: dist.new_group([*group]) for group in distinct}
    return made[tuple(sorted(groups[rank]))]


if __name__ == "__main__":
    main(Path(sys.argv[1]))

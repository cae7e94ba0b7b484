"""Under torchrun, a script with its own torch.distributed.pipelining schedules, recorded.

For each schedule named on the command line, rank 0 leaves the trace of a step, and how often the
model and torch's functions are still replaced afterwards.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.pipelining import PipelineStage, schedules

from pipelab.engine import recording

FOLDER, NAMES = Path(sys.argv[1]), sys.argv[2:]
WIDTH, MICROBATCHES = 32, 8


def own_stages(kind, rank, size):
    """Numbers of this rank's stages: one, a loop, or a V."""
    if not issubclass(kind, schedules.PipelineScheduleMulti):
        return [rank]
    return [rank, 2 * size - 1 - rank] if "ZBV" in kind.__name__ else [rank, rank + size]


def layers():
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))


def run(name, rank, size):
    kind = getattr(schedules, name)
    own = own_stages(kind, rank, size)
    many = len(own) > 1
    stages = [PipelineStage(layers(), n, len(own) * size, torch.device("cpu")) for n in own]
    schedule = kind(stages if many else stages[0], MICROBATCHES, loss_fn=nn.functional.mse_loss)
    inputs, targets = torch.randn(64, WIDTH), torch.randn(64, WIDTH)
    last = len(own) * size - 1

    def step():
        args = [inputs] if 0 in own else []
        schedule.step(*args, **({"target": targets, "losses": []} if last in own else {}))

    before = {**vars(schedules)}, [{**vars(stage)}.keys() for stage in stages]
    step()
    with recording(schedule) as recorded:
        step()
        step()
    step()  # as it was: nothing more is recorded
    same = before[0] == vars(schedules) and "step" not in vars(schedule)
    same = same and not any("forward_one_chunk" in vars(stage) for stage in stages)
    if rank == 0:
        recorded.trace.save(FOLDER / f"{name}.json")
        (FOLDER / f"{name}.txt").write_text(json.dumps([same, len(recorded.traces)]))


torch.set_num_threads(1)
dist.init_process_group("gloo")
for schedule_name in NAMES:
    run(schedule_name, dist.get_rank(), dist.get_world_size())
dist.barrier()
dist.destroy_process_group()

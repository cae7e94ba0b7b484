"""torch.distributed.pipelining as its documentation has it, on two ranks: nothing of pipelab's.

    python tests/engine/raw_torch.py accumulate      # prints what rank 0 and rank 1 found

Each trial is a pair of processes that are forked once torch is loaded.
"""

import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
import warnings
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe, schedules
from torch.nn.functional import cross_entropy, mse_loss

CPU = torch.device("cpu")


def model():
    torch.manual_seed(1)
    return [nn.Linear(8, 8), nn.Linear(8, 8)]


def batch(rows):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 8, generator=generator)
    return x, torch.randint(8, (rows,), generator=generator)


def schedule_of(rank, layers, m, loss=cross_entropy, kind=ScheduleGPipe, **options):
    return kind(PipelineStage(layers[rank], rank, 2, CPU), m, loss_fn=loss, **options)


def step(rank, schedule, x, y, how="step"):
    call = getattr(schedule, how)
    return call(target=y) if rank else call(x)


def ratio(rank, layers, x, y, loss=cross_entropy):
    """How many times one process's gradient this rank's is."""
    alone = nn.Sequential(*model())
    loss(alone(x), y).backward()
    return (layers[rank].weight.grad.norm() / alone[rank].weight.grad.norm()).item()


def accumulate(rank):
    """Two steps before zero_grad, 4 microbatches: the gradient should be doubled."""
    layers, (x, y) = model(), batch(8)
    schedule = schedule_of(rank, layers, 4)
    for _ in range(2):
        step(rank, schedule, x, y)
    return ratio(rank, layers, x, y)


def evaluate(rank):
    """An evaluation after a step, 4 microbatches: the gradient should stay."""
    layers, (x, y) = model(), batch(8)
    schedule = schedules._PipelineScheduleRuntime(
        [PipelineStage(layers[rank], rank, 2, CPU)], 4, loss_fn=cross_entropy
    )
    load(schedule, "0F0,0F1,0F2,0F3,0B0,0B1,0B2,0B3\n1F0,1F1,1F2,1F3,1B0,1B1,1B2,1B3\n")
    step(rank, schedule, x, y)
    step(rank, schedule, x, y, "eval")
    return ratio(rank, layers, x, y)


def load(schedule, text, form="compute_only"):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "schedule.csv"
        path.write_text(text, "utf-8")
        schedule._load_csv(str(path), format=form)


def batchnorm(rank):
    """One step of 4 microbatches: BatchNorm should have counted 4, and know sane means."""
    torch.manual_seed(1)
    layers, (x, y) = [nn.BatchNorm1d(8), nn.BatchNorm1d(8)], batch(8)
    step(rank, schedule_of(rank, layers, 4), x, y)
    return layers[rank].num_batches_tracked.item()


def runtime_ratio(rank, text, form="compute_only"):
    layers, (x, y) = model(), batch(8)
    runtime = schedules._PipelineScheduleRuntime(
        [PipelineStage(layers[rank], rank, 2, CPU)], 2, loss_fn=cross_entropy
    )
    load(runtime, text, form)
    step(rank, runtime, x, y)
    alone = nn.Sequential(*model())
    cross_entropy(alone(x), y).backward()
    error = layers[rank].weight.grad - alone[rank].weight.grad
    return (error.norm() / alone[rank].weight.grad.norm()).item()


def order(rank):
    """The last stage runs microbatch 1 first: the error of the gradient should be 0."""
    return runtime_ratio(rank, "0F0,0F1,0B0,0B1\n1F1,1F0,1B0,1B1\n")


def crossed(rank):
    """Rank 1 receives in another order than rank 0 sends: should be refused."""
    zero = "0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1,0REDUCE_GRAD"
    one = "1RECV_F1,1RECV_F0,1F0,1F1,1B0,1SEND_B0,1B1,1SEND_B1,1REDUCE_GRAD"
    return runtime_ratio(rank, f"{zero}\n{one}\n", "compute_comms")


def tied(rank):
    """One weight in both stages, 2 microbatches: should have the gradient of both uses."""
    layers, (x, y) = model(), batch(8)
    layers[1].weight = layers[0].weight
    step(rank, schedule_of(rank, layers, 2), x, y)
    alone = model()
    alone[1].weight = alone[0].weight
    cross_entropy(nn.Sequential(*alone)(x), y).backward()
    error = layers[rank].weight.grad - alone[0].weight.grad
    return (error.norm() / alone[0].weight.grad.norm()).item()


def summed(rank):
    """A loss that adds up over rows, 4 microbatches: should be the whole batch's gradient."""

    def loss(output, target):
        return mse_loss(output, nn.functional.one_hot(target, 8).float(), reduction="sum")

    layers, (x, y) = model(), batch(8)
    step(rank, schedule_of(rank, layers, 4, loss), x, y)
    return ratio(rank, layers, x, y, loss)


def uneven(rank):
    """7 rows for 4 microbatches."""
    layers, (x, y) = model(), batch(7)
    step(rank, schedule_of(rank, layers, 4), x, y)
    return ratio(rank, layers, x, y)


def smaller(rank):
    """A last batch that is smaller."""
    layers = model()
    schedule = schedule_of(rank, layers, 4)
    for rows in (8, 4):
        step(rank, schedule, *batch(rows))


def few(rank):
    """1F1B with 1 microbatch on 2 ranks."""
    layers, (x, y) = model(), batch(8)
    step(rank, schedule_of(rank, layers, 1, kind=Schedule1F1B), x, y)
    return ratio(rank, layers, x, y)


def inplace(rank):
    """The second stage begins with a layer that works in place."""
    layers, (x, y) = model(), batch(8)
    layers[1] = nn.Sequential(nn.ReLU(inplace=True), layers[1])
    step(rank, schedule_of(rank, layers, 4), x, y)


TRIALS = (
    accumulate, evaluate, batchnorm, order, crossed, tied, summed, uneven, smaller, few, inplace,
)  # fmt: skip


def _rank(trial, rank, folder, pipe):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=(Path(folder) / "meet").as_uri(), rank=rank, world_size=2,
        timeout=timedelta(seconds=5),
    )  # fmt: skip
    try:
        pipe.send(trial(rank))
    except Exception as error:
        traceback.print_exc()
        pipe.send(f"{type(error).__name__}: {error}")
        time.sleep(0.3)  # for gloo to read what is under way: the system would reset the connection
    os._exit(0)


def run(trial):
    """What rank 0 and rank 1 found: numbers, or what they raised."""
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        pipes, processes = [], []
        for rank in range(2):
            ours, theirs = context.Pipe()
            process = context.Process(target=_rank, args=(trial, rank, folder, theirs), daemon=True)
            process.start()
            pipes.append(ours)
            processes.append(process)
        found = [pipe.recv() if pipe.poll(15) else "no answer in 15 s" for pipe in pipes]
        for process in processes:
            process.kill()
            process.join()
    return found


if __name__ == "__main__":
    wanted = sys.argv[1:] or [trial.__name__ for trial in TRIALS]
    print(json.dumps({t.__name__: run(t) for t in TRIALS if t.__name__ in wanted}, indent=1))

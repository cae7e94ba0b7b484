"""What torchrun starts, once per rank, for the benchmark of ``recording``: steps with and without.

A script of somebody's: a model cut in stages, torch's own schedule, gloo. Blocks of steps are
recorded, plain, and plain again, in changing order; a block is timed from a barrier within
``recording`` to its last step, so that the exchange at its end is apart.

    recording_rank.py FOLDER MODEL SCHEDULE MICROBATCHES BLOCKS SECONDS    writes FOLDER/result.json
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch
import torch.distributed as dist
from torch.distributed import pipelining
from torch.distributed.pipelining import PipelineStage, schedules

from pipelab.bench.workloads import workload
from pipelab.engine import recording
from pipelab.engine.rank.script_steps import ScriptSteps
from pipelab.partition import split

ROUNDS, REPEATS = 500, 15  # microbatches of a stub, and how often

SIDES = ("recorded", "plain", "again")

Block = tuple[float, float, float, float]  # start, end; processor's seconds; the exchange's


def main(folder: Path, model: str, schedule: str, microbatches: int, blocks: int, seconds: float):
    """Be one rank, and write down on rank 0 what all have measured."""
    rank, num_ranks = dist.get_rank(), dist.get_world_size()
    work = workload(model, num_ranks)
    layers = split(work.model, num_ranks)[rank]
    stage = PipelineStage(layers, rank, num_ranks, torch.device("cpu"))
    own = getattr(pipelining, schedule)(stage, microbatches, loss_fn=work.loss)
    inputs = [work.inputs] if rank == 0 else []
    target = work.targets if rank == num_ranks - 1 else None

    def step() -> None:
        layers.zero_grad()
        own.step(*inputs, target=target, losses=[], return_outputs=False)

    for _ in range(3):  # the first finds out the shapes
        step()
    dist.barrier()
    start = time.monotonic()
    step()
    steps = [max(1, round(seconds / (time.monotonic() - start)))]
    dist.broadcast_object_list(steps)
    found: dict[str, list[Block]] = {side: [] for side in SIDES}
    events = 0
    for number in range(blocks):
        first = number % len(SIDES)
        turn = SIDES[first:] + SIDES[:first]
        for side in turn if number // len(SIDES) % 2 else reversed(turn):
            if side != "recorded":
                found[side].append(_block(step, steps[0]))
                continue
            with recording(own) as recorded:
                block = _block(step, steps[0])
                ended = time.monotonic()
            found[side].append((*block[:3], time.monotonic() - ended))
            events = len(recorded.trace.events)
    everyone: list[object] = [None] * num_ranks
    dist.all_gather_object(everyone, found)
    if rank == 0:
        result = {"steps": steps[0], "events": events, "ranks": everyone, "alone": _alone()}
        (folder / "result.json").write_text(json.dumps(result), "utf-8")
    dist.barrier()


def _block(step: Callable[[], None], number: int) -> Block:
    dist.barrier()
    start, cpu = time.monotonic(), time.process_time()
    for _ in range(number):
        step()
    return start, time.monotonic(), time.process_time() - cpu, 0.0


class _Stage:
    """A stage of which nothing takes time, so that only the recorder does."""

    stage_index, group_rank, is_last, device = 1, 1, False, torch.device("cpu")
    group = None

    def __init__(self) -> None:
        op = SimpleNamespace(tensor=torch.zeros(8), peer=0, group_peer=0, group=None)
        for name in ("get_fwd_recv_ops", "get_fwd_send_ops", "get_bwd_recv_ops",
                     "get_bwd_send_ops"):  # fmt: skip
            setattr(self, name, lambda microbatch, ops=(op,): [*ops])

    def forward_one_chunk(self, *args: object, **kwargs: object) -> None: ...

    backward_one_chunk = backward_weight_one_chunk = forward_one_chunk


class _Schedule:
    """Eight messages, waits and computations a microbatch, as a middle rank has."""

    def __init__(self) -> None:
        self._stage = _Stage()

    def _maybe_compute_loss(self, *args: object) -> None: ...

    def step(self) -> None:
        stage = self._stage
        sides = [
            (stage.get_fwd_recv_ops, stage.forward_one_chunk, stage.get_fwd_send_ops),
            (stage.get_bwd_recv_ops, stage.backward_one_chunk, stage.get_bwd_send_ops),
        ]
        for microbatch in range(ROUNDS):
            for receives, compute, sends in sides:
                schedules._wait_batch_p2p(schedules._batch_p2p(receives(microbatch)))
                compute(microbatch, (), {})
                schedules._wait_batch_p2p(schedules._batch_p2p(sends(microbatch)))


@contextmanager
def _no_messages() -> Iterator[None]:
    works = [SimpleNamespace(wait=lambda: None)]
    with mock.patch.object(schedules, "_batch_p2p", lambda ops, desc=None: [*works]):
        yield


def _alone() -> float:
    """The recorder's own processor seconds for an event, with nothing beside it in the caches."""
    own, seconds, events = _Schedule(), {True: [], False: []}, 1  # type: ignore[var-annotated]
    with _no_messages():
        for _ in range(REPEATS):
            for is_recorded in (True, False):
                steps = ScriptSteps(own)
                start = time.process_time()
                if is_recorded:
                    with steps.attached():
                        own.step()
                else:
                    own.step()
                seconds[is_recorded].append(time.process_time() - start)
                events = len(steps.steps[0]) if is_recorded else events
    return (min(seconds[True]) - min(seconds[False])) / events


def _end_with_bench() -> None:
    os.read(0, 1)  # nothing is ever written: this returns when the bench has gone
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_bench, daemon=True).start()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=(Path(sys.argv[1]) / "meeting-point").as_uri(),
                            rank=int(os.environ["RANK"]),
                            world_size=int(os.environ["WORLD_SIZE"]))  # fmt: skip
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], *map(int, sys.argv[4:6]), float(sys.argv[6]))
    dist.destroy_process_group()

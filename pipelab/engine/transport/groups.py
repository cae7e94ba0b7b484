"""Join the ranks of one pipeline over gloo: ``join`` those launched here, ``meet`` torchrun's.

Launched ranks meet through a file in a folder that only its owner may enter, so no port listens
for strangers; the connections between them are bound to the loopback interface.
"""

import os
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore, PrefixStore, ProcessGroupGloo, Store

START_TIMEOUT = 60.0  # seconds for a rank to come up and to build its stages on a busy machine


class TimedOut(RuntimeError):
    """A message, or an all-reduce, was not complete in time."""


class Groups(NamedTuple):
    """The groups of ranks that one rank belongs to, all gloo; None where it would be alone.

    ``store``: where ranks that have met can meet again, for NCCL.
    """

    everyone: dist.ProcessGroup
    replicas: dist.ProcessGroup | None
    pipeline: dist.ProcessGroup | None
    store: Store


def join(folder: Path, rank: int, num_ranks: int, replicas: int) -> Groups:
    """Meet the other ranks; returns when all are there.

    Ranks are numbered replica by replica: with 2 replicas of 3 ranks, rank 4 is the middle of the
    second copy.
    """
    before = _threads()
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")  # its first contact, not its messages
    store = FileStore(str(folder / "meeting-point"), num_ranks)
    dist.init_process_group(
        "gloo",
        store=store,
        rank=rank,
        world_size=num_ranks,
        timeout=timedelta(seconds=START_TIMEOUT),
    )
    joined = _groups(rank, num_ranks, num_ranks // replicas, store)
    _lower_priority(_threads() - before)
    return joined


def devices(num_ranks: int, replicas: int, address: str | None) -> list[ProcessGroupGloo.Device]:
    """What the groups of one rank send from; each listens at a port.

    ``address``: of this machine; None leaves the choice to gloo, which follows
    ``GLOO_SOCKET_IFNAME``.
    """
    number = 1 if replicas == 1 else 2 if replicas == num_ranks else 3
    gloo = ProcessGroupGloo
    if address:
        return [gloo.create_device(hostname=address) for _ in range(number)]
    return [gloo.create_default_device() for _ in range(number)]


def meet(
    store: Store, rank: int, num_ranks: int, replicas: int, address: str | None = None,
    own: list[ProcessGroupGloo.Device] | None = None,
) -> Groups:  # fmt: skip
    """Meet the ranks that torchrun started, through its store.

    ``own``: what ``devices`` gave, if that was called before. Torch's default group is not touched:
    it is the script's.
    """
    own = own or devices(num_ranks, replicas, address)
    before = _threads()
    p = num_ranks // replicas
    copy, place = divmod(rank, p)
    everyone = _gloo(PrefixStore("everyone", store), rank, num_ranks, own[0])
    alike, pipeline = None, everyone if p > 1 else None
    if replicas > 1:
        alike = _gloo(PrefixStore(f"replicas of {place}", store), copy, replicas, own[1])
        if p > 1:
            pipeline = _gloo(PrefixStore(f"pipeline {copy}", store), place, p, own[2])
    _lower_priority(_threads() - before)
    return Groups(everyone, alike, pipeline, store)


def _gloo(store: Store, rank: int, size: int, device: ProcessGroupGloo.Device) -> dist.ProcessGroup:
    """A group outside of torch's registry: it is released with its last reference."""
    options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._timeout = timedelta(seconds=START_TIMEOUT)
    options._devices = [device]
    return ProcessGroupGloo(store, rank, size, options)  # type: ignore[return-value]  # a Backend, same face


def nccl(
    store: Store, name: str, rank: int, size: int, device: torch.device, timeout: float
) -> dist.ProcessGroup:
    """A group of GPUs, outside of torch's registry; each of its ranks makes it under one name.

    Blocks until all of them do. After ``timeout`` NCCL ends the process without a message, so it
    gets a minute more: the parent, or torchrun's other ranks, report before that who is late.
    """
    from torch.distributed import ProcessGroupNCCL  # a build for CPUs alone has none

    # else it warns that a group's messages are serialized, as those of one channel must be
    os.environ.setdefault("TORCH_NCCL_SHOW_EAGER_INIT_P2P_SERIALIZATION_WARNING", "false")
    options = ProcessGroupNCCL.Options()
    options._timeout = timedelta(seconds=timeout + START_TIMEOUT)
    group = ProcessGroupNCCL(PrefixStore(name, store), rank, size, options)
    group.eager_connect_single_device(device)
    return group  # type: ignore[return-value]  # a Backend, same face


def finish(work: dist.Work, seconds: float) -> None:
    """Block until a message or an all-reduce of NCCL has completed; raise RuntimeError if late.

    Its own ``wait`` returns at once or, given a time, polls once a millisecond, and counts from the
    moment at which the message was posted.
    """
    until = time.monotonic() + seconds
    while not work.is_completed():
        if time.monotonic() > until:
            raise TimedOut(f"not complete after {seconds:g} s")
        time.sleep(0)  # let this process's other threads run
    # orders what is computed next after it; and given a time, it raises what went wrong
    work.wait(timedelta(seconds=seconds))


def wait(work: dist.Work, seconds: float) -> None:
    """Block until a message of gloo's, or an all-reduce, is complete.

    Raises:
        TimedOut: it was not, in so many seconds. gloo has no type of error for that.
        RuntimeError: another rank is gone.
    """
    until = time.monotonic() + seconds
    try:
        work.wait(timedelta(seconds=seconds))
    except RuntimeError as error:
        if time.monotonic() >= until:
            raise TimedOut(f"not complete after {seconds:g} s") from error
        raise


def _groups(rank: int, num_ranks: int, p: int, store: Store) -> Groups:
    """All ranks make all groups, in the same order, as torch wants it; each keeps its own."""
    everyone = dist.distributed_c10d._get_default_group()
    if p == num_ranks:
        return Groups(everyone, None, everyone if p > 1 else None, store)
    copies = [list(range(first, first + p)) for first in range(0, num_ranks, p)]
    same_stages = [list(ranks) for ranks in zip(*copies, strict=True)]
    mine = {}
    for kind, sets in (("replicas", same_stages), ("pipeline", copies if p > 1 else [])):
        for ranks in sets:
            group = dist.new_group(ranks, timeout=timedelta(seconds=START_TIMEOUT), backend="gloo")
            if rank in ranks:
                mine[kind] = group
    return Groups(everyone, mine["replicas"], mine.get("pipeline"), store)


def _threads() -> set[int]:
    """This process's threads, as the system numbers them (Linux; elsewhere none)."""
    path = Path("/proc/self/task")
    return {int(task.name) for task in path.iterdir()} if path.exists() else set()


def _lower_priority(threads: set[int]) -> None:
    """Let gloo's threads yield to the rank's own: they spin while a send holds their connection.

    On a core that both share, the spinning takes half of it from the computation. And a thread
    that cut in just then would spin until its turn ends, for the sender cannot go on: so on Linux
    they wait until the rank waits, has had its turn (SCHED_BATCH), or yields (rank/affinity.py).
    """
    for thread in threads:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, 5)
            if hasattr(os, "sched_setscheduler"):
                os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))

"""Join the ranks of one pipeline: gloo over the loopback interface, met through a private file.

The meeting point is a file in a folder that only its owner may enter, so no port listens for
strangers; the connections between ranks are bound to the loopback interface.
"""

import os
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

PATIENCE = 60.0  # seconds for a rank to come up and to build its stages on a busy machine


def join(folder: Path, rank: int, num_ranks: int) -> dist.ProcessGroup:
    """Meet the other ranks; returns when all are there."""
    before = _threads()
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(str(folder / "meeting-point"), num_ranks),  # type: ignore[attr-defined]
        rank=rank,
        world_size=num_ranks,
        timeout=timedelta(seconds=PATIENCE),
    )
    _step_back(_threads() - before)
    return dist.distributed_c10d._get_default_group()


def _threads() -> set[int]:
    """This process's threads, as the system numbers them (Linux; elsewhere none)."""
    path = Path("/proc/self/task")
    return {int(task.name) for task in path.iterdir()} if path.exists() else set()


def _step_back(threads: set[int]) -> None:
    """Let gloo's threads yield to the rank's own: they spin while a send holds their connection.

    On a core that both share, the spinning takes half of it from the computation.
    """
    for thread in threads:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, 5)

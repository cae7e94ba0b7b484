"""Join the ranks of one pipeline: gloo over the loopback interface, met through a private file.

The meeting point is a file in a folder that only its owner may enter, so no port listens for
strangers; the connections between ranks are bound to the loopback interface.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

PATIENCE = 60.0  # seconds for a rank to come up and to build its stages on a busy machine


def join(folder: Path, rank: int, num_ranks: int) -> dist.ProcessGroup:
    """Meet the other ranks; returns when all are there."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(str(folder / "meeting-point"), num_ranks),  # type: ignore[attr-defined]
        rank=rank,
        world_size=num_ranks,
        timeout=timedelta(seconds=PATIENCE),
    )
    return dist.distributed_c10d._get_default_group()

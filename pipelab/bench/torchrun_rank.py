"""What torchrun starts, once per rank: join over gloo, pass one barrier, write down when.

A script that nothing imports: a rank of torchrun's pays for
torch and for nothing of ours. It ends with the bench, whose end closes the pipe on its stdin.

    torchrun_rank.py FOLDER      writes FOLDER/rank-N: seconds on the machine's monotonic clock
"""

import os
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path


def _end_with_bench() -> None:
    os.read(0, 1)  # nothing is ever written: this returns when the bench has gone
    os._exit(1)


def main(folder: Path) -> None:
    """Be one rank of torchrun's, whose number and number of ranks come by the environment."""
    threading.Thread(target=_end_with_bench, daemon=True).start()
    import torch.distributed as dist

    rank, num_ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group(
        "gloo",
        init_method=(folder / "meeting-point").as_uri(),
        rank=rank,
        world_size=num_ranks,
        timeout=timedelta(seconds=60),
    )
    dist.barrier()
    (folder / f"rank-{rank}").write_text(repr(time.monotonic()), "utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""torchrun, whose ranks are forked from it once it has loaded what their script imports.

A script that nothing imports:  forked_ranks.py MODULE,MODULE,... torchrun's arguments

By itself torchrun starts Python once for each rank, and each loads PyTorch for seconds. With its
own options --run-path and --start-method=fork, its ranks are forked from it, and run the script as
``__main__`` all the same. What the script imports is loaded before that, once.
"""

import gc
import os
import sys
import threading
from importlib import import_module

from torch.distributed.run import main


def _follow(lifeline: int) -> None:
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()


def _end_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)  # nothing is written: it returns when who asked is gone
    os._exit(1)


if __name__ == "__main__":
    for name in sys.argv.pop(1).split(","):
        import_module(name)
    gc.freeze()  # a look at these objects in each rank would copy the memory that ranks share
    lifeline = os.dup(0)  # multiprocessing closes the stdin of a process that it forks
    os.register_at_fork(after_in_child=lambda: _follow(lifeline))
    main()

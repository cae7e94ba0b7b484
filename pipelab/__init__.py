"""pipelab: understand pipeline parallelism by running it.

    WHAT     pipelab.schedules    who runs what, in which order
    WHERE    pipelab.partition    which layers live in which stage
    WHEN     pipelab.trace        what started and ended when, predicted or recorded
    predict  pipelab.simulator    a schedule and a cost become a predicted trace
    record   pipelab.engine       a schedule and a model become a recorded trace, on real ranks

Importing ``pipelab`` loads neither torch nor matplotlib; the folders do as they need them.
"""

import sys

__version__ = "0.1.0"

if "ipykernel" in sys.modules:  # in a notebook
    from pipelab import new_kernel, whole_imports

    new_kernel.begin()
    whole_imports.begin()

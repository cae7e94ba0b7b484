"""What the fork server loads before it forks a rank: all that is slow, nothing that touches CUDA.

The first optimizer in a process imports ``torch._dynamo``, which takes a second: load it once.
"""

import signal

import cloudpickle  # noqa: F401

import pipelab.engine.rank  # noqa: F401

# The notebook's Stop sends SIGINT to the whole process group. Ranks are stopped by their
# pipeline alone, so they must never see it, not even between fork and their first line.
signal.signal(signal.SIGINT, signal.SIG_IGN)

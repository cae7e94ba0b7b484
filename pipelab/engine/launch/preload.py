"""What the fork server loads before it forks a rank: all that is slow, nothing that touches CUDA.

The first optimizer in a process imports ``torch._dynamo`` and hundreds of modules with it, which
takes a second: make one here. It must be SGD: a step of Adam looks for GPUs, and a process forked
from one that has looked cannot use any.
"""

import atexit
import os
import signal

import torch

import pipelab.engine.launch.rank_process  # noqa: F401 - loaded for the ranks
from pipelab.engine.launch import fork_server

# Only their pipeline stops ranks (see ``fork_server``): they ignore SIGINT from their first line
# on, and the signals that were blocked until here can be unblocked.
if fork_server.is_inside():
    atexit.register(os._exit, 0)  # runs last: to unload torch piece by piece would take a second
    atexit.register(fork_server.remove_leftovers, os.getppid())  # runs before it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

_parameter = torch.nn.Parameter(torch.zeros(1))
_parameter.grad = torch.zeros(1)
torch.optim.SGD([_parameter], lr=0.0).step()

"""What the fork server loads before it forks a rank: all that is slow, nothing that touches CUDA.

The first optimizer in a process imports ``torch._dynamo`` and hundreds of modules with it, which
takes a second: make one here. It must be SGD: a step of Adam's looks for GPUs, and a process that
was forked from one which has looked can use none.
"""

import atexit
import os
import signal

import torch

import pipelab.engine.launch.rank_process  # noqa: F401 - loaded for the ranks
from pipelab.engine.launch import fork_server

# Ranks are stopped by their pipeline alone (see ``fork_server``): they ignore SIGINT from their
# first line on, and may then hear all signals again.
if fork_server.is_inside():
    atexit.register(os._exit, 0)  # the last act: to take torch down piece by piece lasts a second
    atexit.register(fork_server.sweep, os.getppid())  # the last but one
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

_parameter = torch.nn.Parameter(torch.zeros(1))
_parameter.grad = torch.zeros(1)
torch.optim.SGD([_parameter], lr=0.0).step()

"""What the fork server loads before it forks a rank: all that is slow, nothing that touches CUDA.

The first step of an optimizer loads what torch has not loaded yet: take one here. It must be SGD: a
step of Adam looks for GPUs, and a process forked from one that has looked cannot use any.
"""

import torch

import pipelab.engine.launch.rank_process  # noqa: F401 - loaded for the ranks
from pipelab.engine.launch import late_compiler

late_compiler.begin()
_parameter = torch.nn.Parameter(torch.zeros(1))
_parameter.grad = torch.zeros(1)
torch.optim.SGD([_parameter], lr=0.0).step()

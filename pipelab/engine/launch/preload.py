"""What the fork server loads before it forks a rank: all that is slow, nothing that touches CUDA.

The first optimizer in a process imports ``torch._dynamo`` and hundreds of modules with it, which
takes a second: make one here. It must be SGD: a step of Adam looks for GPUs, and a process forked
from one that has looked cannot use any.
"""

import torch

import pipelab.engine.launch.rank_process  # noqa: F401 - loaded for the ranks

_parameter = torch.nn.Parameter(torch.zeros(1))
_parameter.grad = torch.zeros(1)
torch.optim.SGD([_parameter], lr=0.0).step()

"""Faults of every kind, each let off in one chosen action of one chosen step."""

import os
import signal
import sys
import threading
import time
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.action import Action, Kind
from pipelab.schedules import gpipe, interleaved, one_f_one_b, zero_bubble_h1

NUM_RANKS, NUM_MICROBATCHES, WIDTH = 3, 6, 8
SCHEDULES = {
    "gpipe": gpipe(NUM_RANKS, NUM_MICROBATCHES),
    "1f1b": one_f_one_b(NUM_RANKS, NUM_MICROBATCHES),
    "interleaved": interleaved(NUM_RANKS, NUM_MICROBATCHES, stages_per_rank=2),
    "zero_bubble_h1": zero_bubble_h1(NUM_RANKS, NUM_MICROBATCHES),
}
PHASES = ("warmup", "steady", "cooldown")
ANYWHERE = ("kill", "stop", "exit 0", "exit 3", "_exit 0", "_exit 3", "loop", "nan")
FORWARD = ("forward", "wrong shape", "wrong dtype", "memory")
ONCE = ("loss", "optimizer", "construction", "unpicklable", "unpickling", "iterator")
FAULTS = (*FORWARD, "backward", *ANYWHERE, *ONCE)


class Bang(Exception):
    """The learner's own mistake."""


class Spot(NamedTuple):
    """Where a fault goes off; ``step`` counts from 0."""

    fault: str
    stage: int
    kind: str  # F or B
    microbatch: int
    step: int


def spot(fault, schedule, rank, phase, step):
    """The action in which a fault goes off, or None: no phase has such an action there."""
    row = schedule.compute.ranks[rank]
    backwards = [i for i, a in enumerate(row) if a.kind is not Kind.F]
    forwards = [i for i, a in enumerate(row) if a.kind is Kind.F]
    first, last = backwards[0], forwards[-1]
    phases = {
        "warmup": row[:first],
        "steady": row[first : last + 1],
        "cooldown": row[max(first, last + 1) :],
    }
    wanted = [Kind.F] if fault in (*FORWARD, "loss") else [Kind.B, Kind.I]
    if fault in ANYWHERE:
        wanted = [Kind.F, Kind.B, Kind.I]
    found = [a for a in phases[phase] if a.kind in wanted]
    if fault == "loss":
        found = [a for a in found if a.stage == schedule.num_stages - 1]
    if fault in ("wrong shape", "wrong dtype"):  # in the first step ever, the form is learnt
        step = 1
    if fault == "memory":  # what a forward keeps is measured once
        found, step = [a for a in found if a.microbatch == 0 and a.stage < NUM_RANKS], 0
    if not found:
        return None
    action = found[len(found) // 2]
    return Spot(fault, action.stage, "F" if action.kind is Kind.F else "B", action.microbatch, step)


def go_off(fault, x):
    """Do it, now; what it returns is handed on."""
    match fault:
        case "forward" | "backward":
            raise Bang("my own mistake")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "exit 0" | "exit 3":
            sys.exit(int(fault[-1]))
        case "_exit 0" | "_exit 3":
            os._exit(int(fault[-1]))
        case "loop":
            while True:
                time.sleep(0.001)
        case "nan":
            return x * float("nan")
        case "wrong shape":
            return x[:, :-1]
        case "wrong dtype":
            return x.double()
        case "memory":
            keep = x.expand(4096, *x.shape).clone()
            return x + (keep * keep).mean() * 0
    return x


class _Echo(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, trap, number):
        ctx.trap, ctx.number = trap, number
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.trap.pull("B", ctx.number, gradient), None, None


class Trap(nn.Module):
    """Hands its input on, but for one action; counts the forwards of its stage."""

    def __init__(self, stage, spot):
        super().__init__()
        self.spot = spot if spot is not None and spot.stage == stage else None
        self.seen = 0

    def pull(self, kind, number, x):
        s = self.spot
        if s and kind == s.kind and divmod(number, NUM_MICROBATCHES) == (s.step, s.microbatch):
            return go_off(s.fault, x)
        return x

    def forward(self, x):
        number, self.seen = self.seen, self.seen + 1
        if not self.training:
            return x
        x = self.pull("F", number, x)
        return _Echo.apply(x, self, number) if x.dtype == torch.float32 else x


class Moody(nn.Module):
    """Cannot be sent, or cannot be taken up."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        if how == "unpicklable":
            self.lock = threading.Lock()

    def forward(self, x):
        return x

    def __getstate__(self):
        if self.how == "construction":
            raise Bang("cannot be taken apart")
        return super().__getstate__()

    def __setstate__(self, state):
        if state["how"] == "unpickling":
            raise Bang("cannot be built here")
        super().__setstate__(state)


def model(num_stages, spot=None, moody=None):
    """One linear layer and one trap for each stage."""
    stages = []
    for number in range(num_stages):
        layers = [nn.Linear(WIDTH, WIDTH), Trap(number, spot)]
        if moody and moody[0] == number:
            layers.append(Moody(moody[1]))
        stages.append(nn.Sequential(*layers))
    return stages


class Loss:
    """Cross entropy, which counts its calls on the rank."""

    def __init__(self, spot=None):
        self.spot, self.seen = spot, 0

    def __call__(self, output, target):
        number, self.seen = self.seen, self.seen + 1
        s = self.spot
        if s and divmod(number, NUM_MICROBATCHES) == (s.step, s.microbatch):
            raise Bang("my own mistake")
        return cross_entropy(output, target)


class Optimizer(torch.optim.SGD):
    """SGD that fails in its n-th step, where its parameters are those of one stage."""

    def __init__(self, parameters, fails_at):
        super().__init__(parameters, lr=0.01)
        self.fails_at, self.steps = fails_at, 0

    def step(self, closure=None):
        self.steps += 1
        if self.steps > self.fails_at:
            raise Bang("my own mistake")
        super().step(closure)


def batch():
    """The last class alone: an output that is too narrow has no room for it."""
    return torch.randn(12, WIDTH), torch.full((12,), WIDTH - 1)


def tokens_of(s):
    """The action as the errors write it. A split backward is an I, but a W on the first stage,
    which has no input to give a gradient to.
    """
    kinds = (Kind.F,) if s.kind == "F" else (Kind.B, Kind.W if s.stage == 0 else Kind.I)
    return {Action(s.stage, kind, s.microbatch).token for kind in kinds}

"""The script of test_torchrun: plain Python runs it whole, torchrun once per rank.

several.py FOLDER MODE       writes FOLDER/rank-N.json
"""

import json
import os
import signal
import socket
import sys
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.engine import Pipeline, profile_step, verify_gradients
from pipelab.engine.torchrun import members
from pipelab.engine.transport import groups
from pipelab.errors import RankError
from pipelab.models import mlp
from pipelab.schedules import one_f_one_b
from pipelab.simulator import Cost
from pipelab.trace import Trace
from tests.engine.one_process import Tied

FOLDER, MODE = Path(sys.argv[1]), sys.argv[2]
RANK = int(os.environ.get("RANK", "0"))
SCHEDULE = one_f_one_b(2, 4)
SGD = partial(torch.optim.SGD, lr=0.1)
PACE = Cost(forward=0.010, backward_input=0.010, backward_weight=0.010, latency=0.002)
SHIFT = 5.0  # seconds that rank 1's clock is ahead, as on another machine
results: dict[str, object] = {}


OWN: list[socket.socket] = []  # the script's own connection, both ends


class Trap(nn.Module):
    """Ends badly in its third forward, once it is on the rank of stage 1."""

    def __init__(self, what):
        super().__init__()
        self.what, self.seen = what, 0

    def forward(self, x):
        self.seen += 1
        if self.seen == 3 and self.what == "raise":
            raise KeyError("my own bug")
        if self.seen == 3 and self.what == "end of file":
            raise EOFError("my own file")
        if self.seen == 3 and self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return x


def pipeline(model=None, **options):
    model = mlp() if model is None else model
    return Pipeline(model, SCHEDULE, loss=cross_entropy, optimizer=SGD, **options)


def train():
    with pipeline(nn.Sequential(*mlp(), nn.Dropout(0.1))) as training:
        steps = []
        for _ in range(3):  # what the script draws must be the same on all ranks
            steps.append(training.step(torch.randn(10, 16), torch.randint(10, (10,))))
        results["losses"] = [step.loss.hex() for step in steps]
        results["pids"] = training.pids
        results["clock"] = getattr(training._ranks, "clock", None)
        state = training.state_dict()
        results["state"] = [tensor.double().sum().item().hex() for tensor in state.values()]
        steps[-1].trace.save(FOLDER / f"trace-{RANK}.json")
        profile = profile_step(training, torch.randn(10, 16), torch.randint(10, (10,)))
        room, bars = profile.clock_error + 1e-4, profile.result.trace.events
        linears = [o for o in profile.operators if o.name == "aten::linear"]
        results["linears"] = [sum(o.rank == rank for o in linears) for rank in (0, 1)]
        results["in their F"] = sum(
            any(  # of two F with less than ``room`` between them, both may seem to hold it
                e.start - room <= o.start <= o.end <= e.end + room
                for e in bars
                if e.kind == "F" and e.rank == o.rank
            )
            for o in linears
        )
    with pipeline() as training:
        data = [(torch.randn(10, 16), torch.randint(10, (10,))) for _ in range(4)]
        steps = [*training.train(data, in_flight=2)]
        results["in flight"] = [step.loss.hex() for step in steps]
        results["overlap"] = Trace.joined(step.trace for step in steps).setting.steps
    wide = mlp(width=200)  # its gradients are too large for the store
    report = verify_gradients(
        wide, SCHEDULE, torch.randn(8, 16), torch.randint(10, (8,)), cross_entropy
    )
    results["exact"] = [row.exact for row in report.parameters]
    x, y = torch.randn(8, 16), torch.randint(10, (8,))
    report = verify_gradients(mlp(), one_f_one_b(1, 4), x, y, cross_entropy, replicas=2)
    results["replicas"] = [report.ok, report.loss.hex()]
    train_tied()


def train_tied():
    first = nn.Linear(16, 16, bias=False)
    model = nn.Sequential(first, nn.ReLU(), nn.Linear(16, 16), Tied(first.weight))
    x, y = torch.randn(10, 16), torch.randint(16, (10,))
    report = verify_gradients(model, SCHEDULE, x, y, cross_entropy)
    with pipeline(model) as training:
        losses = [training.step(x, y).loss.hex() for _ in range(3)]
        state = training.state_dict()
    same = torch.equal(state["0.weight"], state["3.weight"])
    results["tied"] = [report.ok, same, *losses, state["3.weight"].sum().item().hex()]


def pace():
    with pipeline(pace=PACE) as paced:
        x, y = torch.randn(8, 16), torch.randint(10, (8,))
        traces = [paced.step(x, y).trace for _ in range(3)]
        results["paced"] = sorted(trace.duration for trace in traces)[1]


def trapped(what):
    layers = [*mlp()]
    return nn.Sequential(*layers[:-1], Trap(what), layers[-1])


def fail(name, what, model=None):
    """Report what is raised, and continue with the script."""
    started = time.monotonic()
    with pipeline(model, timeout=10.0) as training:
        results[f"{name} repr"] = repr(training)
        try:
            what(training)
        except RankError as error:
            results[name] = [error.rank, error.action, str(error)]
    results[f"{name} seconds"] = time.monotonic() - started


def other_data(training):
    training.step(torch.randn(8, 16) + RANK, torch.randint(10, (8,)))


def step(training):
    training.step(torch.randn(8, 16), torch.randint(10, (8,)))


def with_own_connection(meet, *arguments, **options):
    """Meet the other ranks while another part of the script opens a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        OWN.append(socket.create_connection(server.getsockname()))
        OWN.append(server.accept()[0])
    return meet(*arguments, **options)


def other_call(training):
    x, y = torch.randn(8, 16), torch.randint(10, (8,))
    training.step(x, y)
    if RANK == 0:
        training.gradients()  # one rank alone
    else:
        training.close()


def end_badly(what):
    try:
        with pipeline(trapped(what)) as training:
            step(training)
    except RankError as error:
        (FOLDER / f"error-{RANK}").write_text(str(error))  # stderr of two ranks runs together
        raise


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if MODE == "two nodes":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # as a user of several machines may
        machine = members.machine
        members.machine = lambda: f"{machine()} {RANK}"
        real = time.monotonic
        time.monotonic = lambda: real() + SHIFT * RANK
    if MODE != "raise":
        train()
    if MODE == "two nodes":
        pace()
        groups.meet = partial(with_own_connection, groups.meet)
        fail("other data", other_data)
        OWN[0].sendall(b"?")
        results["own connection"] = OWN[1].recv(1).decode()
        fail("end of file", step, trapped("end of file"))
        fail("other call", other_call)
    (FOLDER / f"rank-{RANK}.json").write_text(json.dumps(results))
    if MODE != "alone":
        end_badly("kill" if MODE == "two nodes" else "raise")


main()

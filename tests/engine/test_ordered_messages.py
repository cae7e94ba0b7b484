"""NCCL's rules, kept by a double: no tags, in order per direction, a send ends when received.

We had no machine with two GPUs. Here the engine's own workers, one in each thread, run every
schedule over channels that are as strict as NCCL may be: the n-th send from one rank to another
goes into the n-th buffer that was opened there, whatever was meant; it is not complete before; and
a buffer of another shape is an error. What deadlocks or swaps there, fails here.
"""

import os
import threading
from functools import partial

import cloudpickle
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.action import COMPUTE, Action, Kind
from pipelab.engine.driver import plan
from pipelab.engine.driver.microbatches import Rule, share_out
from pipelab.engine.protocol.commands import Options, Run, dumps
from pipelab.engine.protocol.device import Place
from pipelab.engine.protocol.progress import Progress
from pipelab.engine.rank.batch import Route
from pipelab.engine.rank.recorder import Recorder
from pipelab.engine.transport import p2p
from pipelab.models import mlp
from pipelab.partition import split
from pipelab.partition.sharing import find_sharing
from pipelab.partition.tree import flatten
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.schedules.communication import lower
from pipelab.simulator import Cost
from tests.engine import in_process
from tests.engine.in_process import End, Link, in_threads, open_session
from tests.engine.test_tied_weights import crossed

NCCL = Place("cpu", "nccl")  # NCCL's rules, on the host

# Buffers of gradients stand before the forwards that show their form, and rank 1 sends two
# gradients before the value that rank 0 waits for.
EARLY_BUFFERS = (
    "2RECV_F0,2RECV_F1,2RECV_B0,2RECV_B1,2RECV_F2,2RECV_B2,0RECV_B0,0RECV_B1,0RECV_B2,"
    "0F0,0SEND_F0,0F1,0SEND_F1,0F2,0SEND_F2,2F0,2SEND_F0,2F1,2SEND_F1,2F2,2SEND_F2,"
    "2B0,2SEND_B0,2B1,2SEND_B1,2B2,2SEND_B2,0B0,0B1,0B2\n"
    "1RECV_F0,1RECV_F1,1RECV_F2,3RECV_F0,3RECV_F1,3RECV_F2,1RECV_B0,1RECV_B1,1RECV_B2,"
    "1F0,1SEND_F0,1F1,1SEND_F1,3F0,3B0,3SEND_B0,3F1,3B1,3SEND_B1,1F2,1SEND_F2,3F2,3B2,3SEND_B2,"
    "1B0,1SEND_B0,1B1,1SEND_B1,1B2,1SEND_B2\n"
)


@pytest.fixture
def sessions(tmp_path):
    """Opens a session for each rank of a schedule, on one ordered link and one with tags."""

    def open_all(model, schedule, pace=None, optimizer=None):
        link, host, stages = Link(tags=False), Link(tags=True), split(model, schedule.num_stages)
        lowered = lower(schedule)
        options = Options(cross_entropy, optimizer, place=NCCL)
        sharing = find_sharing(stages)
        found = []
        for rank, made in enumerate(plan.builds(stages, lowered, 1, options, sharing)):
            made = cloudpickle.loads(dumps(made))  # as each rank gets its own copy
            recorder = Recorder(rank, Progress(tmp_path, schedule.num_ranks))
            found.append(open_session(recorder, made, End(link, rank), End(host, rank)))
        uses = plan.uses(lowered, 1, pace, overlap=True, options=options, ties=sharing.ties)
        for session, use in zip(found, uses, strict=True):
            session.answer(use)
        return found, link, host

    return open_all


def step(found, schedule, x, y, train=True, **options):
    rows, m = len(x), schedule.num_microbatches
    inputs, targets = flatten(x), flatten(y)
    shares = share_out(inputs, targets, rows, m, 1, Rule())
    options |= {"train": train, "signature": inputs.signature}
    runs = plan.runs(shares, schedule, options)
    calls = [lambda s=s, r=r: s.answer(r) for s, r in zip(found, runs, strict=True)]
    assert isinstance(runs[0], Run)
    return in_threads(calls)


def plain_gradients(model, x, y, m):
    model.zero_grad()
    for inputs, targets in zip(x.tensor_split(m), y.tensor_split(m), strict=True):
        (cross_entropy(model(inputs), targets) * (len(inputs) / len(x))).backward()
    return {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("p", [2, 4])
@pytest.mark.parametrize("m", [1, 3, 8])
@pytest.mark.parametrize("name", BUILDERS)
def test_every_schedule_runs_under_the_rules_of_nccl(name, p, m, sessions):
    torch.manual_seed(0)
    m = max(m, BUILDERS[name].fewest(p))
    schedule = build(name, p, m)
    stages = schedule.num_stages
    model, x, y = (
        mlp(width=8, depth=stages),
        torch.randn(2 * m + 1, 16),
        torch.arange(2 * m + 1) % 10,
    )
    found, link, host = sessions(model, schedule)
    for rows in (len(x), len(x), max(m, len(x) - 1)):  # learning, knowing, and other sizes
        step(found, schedule, x[:rows], y[:rows], train=False)  # evaluation in between
        step(found, schedule, x[:rows], y[:rows])
        expected = plain_gradients(model, x[:rows], y[:rows], m)
        ours = {n: g for s in found for n, g in s.fetch("gradients").items()}
        assert ours.keys() == expected.keys()
        for parameter, gradient in expected.items():
            assert torch.allclose(ours[parameter], gradient, rtol=1e-5, atol=1e-7), parameter
    for each in (link, host):
        assert not any(each.sends.values()) and not any(each.receives.values())


@pytest.mark.parametrize("p", [2, 4])
@pytest.mark.parametrize("name", BUILDERS)
def test_tied_weights_keep_the_order_of_their_channels(name, p, sessions):
    m = max(4, BUILDERS[name].fewest(p))
    schedule = build(name, p, m)
    model = crossed(schedule.num_stages)  # ties in both directions between all ranks
    sgd = partial(torch.optim.SGD, lr=0.1)
    found, link, host = sessions(model, schedule, optimizer=sgd)
    optimizer = sgd(model.parameters())
    x, y = torch.randn(9, 8), torch.arange(9) % 8
    for _ in range(3):  # through the host, then in order
        before = link.sent
        step(found, schedule, x, y)
        expected = plain_gradients(model, x, y, m)
        ours = {n: g for s in found for n, g in s.fetch("gradients").items()}
        for parameter, gradient in expected.items():
            assert torch.allclose(ours[parameter], gradient, rtol=1e-4, atol=1e-6), parameter
        optimizer.step()
        for name, value in model.state_dict().items():
            for state in (s.fetch("parameters") for s in found):
                assert name not in state or torch.allclose(state[name], value, atol=1e-6), name
    assert link.sent > before
    for each in (link, host):
        assert not any(each.sends.values()) and not any(each.receives.values())


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", [*BUILDERS, "by hand"])
def test_no_rank_waits_for_a_buffer_that_is_opened_late(name, train, overlap, sessions):
    # On the first batch of a form, a buffer is opened only when it is needed. The first evaluation
    # of looped_bfs(2, 40) hung: each rank waited until the other one took its ninth value.
    schedule = Schedule.from_csv(EARLY_BUFFERS) if name == "by hand" else build(name, 2, 12)
    found, _, _ = sessions(mlp(width=8, depth=schedule.num_stages), schedule)
    for session in found:
        session.messages.window = 1
        session.worker.pace.overlap = overlap
    for rows in (24, 24, 23):  # learning, knowing, and one microbatch of another size
        step(found, schedule, torch.randn(rows, 16), torch.arange(rows) % 10, train)


@pytest.mark.parametrize("train", [True, False])
def test_the_first_batch_of_a_kind_goes_through_the_host_and_no_other_does(train, sessions):
    # a GPU loads its kernels, and takes its memory, while no message of NCCL's waits on it
    schedule = build("1f1b", 2, 4)
    found, link, host = sessions(mlp(width=8, depth=2), schedule)
    values = 4 * (1 + train)  # activations, and their gradients
    x, y = torch.randn(9, 16), torch.arange(9)

    def sent(rows, **options):
        before = link.sent, host.sent
        step(found, schedule, x[:rows], y[:rows], train, **options)
        return link.sent - before[0], host.sent - before[1]

    assert sent(8) == (0, 4 + values)  # with a header before each value
    assert sent(8) == sent(8) == (values, 0)
    assert sent(9) == (0, 1 + values)  # one microbatch of 3 rows, three of the old 2
    assert sent(9) == sent(8) == (values, 0)
    other = {"update": False} if train else {"collect": True}
    assert sent(8, **other) == (0, values)  # the forms are known, but not what is done
    assert sent(8, **other) == (values, 0)
    if train:
        assert sent(8, fresh=False) == (0, values)  # adds up for the first time
    options = Options(cross_entropy, place=NCCL)
    for session, use in zip(
        found, plan.uses(lower(build("gpipe", 2, 4)), 1, None, True, options), strict=True
    ):
        session.answer(use)
    assert sent(8) == (0, values)
    assert sent(8) == (values, 0)


class Average(nn.Module):
    def forward(self, x):
        return x.mean(1)


def test_lengths_that_come_again_leave_the_host(sessions, monkeypatch):
    # each change of length once forgot all others: lengths in turn never left it
    schedule = build("1f1b", 2, 4)
    layers = nn.Sequential(nn.Linear(16, 16), nn.Sequential(Average(), nn.Linear(16, 10)))
    found, link, host = sessions(layers, schedule)
    y = torch.arange(8)

    def sent(length, train=True):
        before = link.sent, host.sent
        x = torch.randn(8, length, 16)
        losses = [done.loss for done in step(found, schedule, x, y, train)]
        assert sum(filter(None, losses)) == pytest.approx(cross_entropy(layers(x), y).item())
        return link.sent - before[0], host.sent - before[1]

    for length in (3, 5, 4):
        assert sent(length) == (0, 4 + 8)
    for length in (5, 3, 4, 3, 5):
        assert sent(length) == (8, 0)
    assert sent(4, train=False) == (0, 4 + 4)
    assert sent(5) == sent(3) == (8, 0)
    assert sent(4, train=False) == (4, 0)
    # no more than so many are remembered, and all ranks forget at once
    monkeypatch.setattr(p2p, "_MOST_SIGNATURES", 4)
    assert [sent(length)[0] for length in (3, 6, 3, 7, 3, 8, 3)] == [8, 0, 8, 0, 0, 0, 8]
    assert all(len(session.messages.signatures) <= 4 for session in found)


def test_paced_messages_keep_their_order_too(sessions):
    schedule, model = build("1f1b", 3, 4), mlp(width=8, depth=3)
    found, _, _ = sessions(model, schedule, pace=Cost(0.001, 0.001, 0.001, latency=0.001))
    x, y = torch.randn(8, 16), torch.arange(8)
    for _ in range(2):
        losses = [done.loss for done in step(found, schedule, x, y) if done.loss is not None]
    assert losses == [pytest.approx(cross_entropy(model(x), y).item(), rel=1e-5)]


def test_a_rank_yields_after_each_send_and_before_whatever_keeps_it_busy(sessions, monkeypatch):
    schedule, turns, this_thread = build("interleaved", 2, 4), {}, threading.local()

    def answer(session, plain, command):
        this_thread.session = session
        return plain(command)

    def noted():
        turns[this_thread.session].append(this_thread.session.recorder.action)

    monkeypatch.setattr(os, "sched_yield", noted)
    found, _, _ = sessions(mlp(width=8, depth=schedule.num_stages), schedule)
    for session in found:
        turns[session] = []
        session.affinity.yields = True
        session.answer = partial(answer, session, session.answer)
    step(found, schedule, torch.randn(8, 16), torch.arange(8))
    for session, mine in turns.items():
        sends = (Kind.SEND_F, Kind.SEND_B)
        wanted = [
            action if action.kind in sends else None  # None: before it, in no action
            for action in session.worker.actions
            if action.kind in {*COMPUTE, Kind.STEP, *sends}
        ]
        assert any(wanted) and mine == wanted


def post_later(session, recv, behind):
    """Let a rank open a buffer only after another of its actions."""
    route = session.routes[True]
    row = [action for action in route.row if action != recv]
    row.insert(row.index(behind) + 1, recv)
    session.routes[True] = Route(tuple(row), route.home, route.rank)


def test_the_double_notices_buffers_that_are_opened_in_another_order(sessions, monkeypatch):
    monkeypatch.setattr(in_process, "TIMEOUT", 0.5)
    schedule = build("gpipe", 2, 4)
    found, _, _ = sessions(mlp(width=8, depth=2), schedule)
    post_later(found[1], Action(1, Kind.RECV_F, 0), behind=Action(1, Kind.RECV_F, 1))
    x, y = torch.randn(9, 16), torch.arange(9)  # microbatches of 3, 2, 2 and 2 rows
    step(found, schedule, x, y)  # through the host: tags allow any order
    with pytest.raises(RuntimeError, match="crossed"):
        step(found, schedule, x, y)


def test_the_double_notices_two_ranks_that_both_wait(sessions, monkeypatch):
    monkeypatch.setattr(in_process, "TIMEOUT", 0.5)
    schedule = build("1f1b", 2, 4)
    found, _, _ = sessions(mlp(width=8, depth=2), schedule)
    x, y = torch.randn(8, 16), torch.arange(8)
    step(found, schedule, x, y)
    for session in found:
        session.worker.pace.overlap = False
    step(found, schedule, x, y)  # sends that block run, since buffers are open before them
    post_later(found[0], Action(0, Kind.RECV_B, 1), behind=Action(0, Kind.SEND_F, 2))
    post_later(found[1], Action(1, Kind.RECV_F, 2), behind=Action(1, Kind.SEND_B, 1))
    with pytest.raises(RuntimeError, match="deadlock"):
        step(found, schedule, x, y)

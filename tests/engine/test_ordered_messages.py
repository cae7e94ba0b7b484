"""NCCL's rules, kept by a double: no tags, each way strictly in order, a send ends when received.

We had no machine with two GPUs. Here the engine's own workers, one in each thread, run every
schedule over channels that are as strict as NCCL may be: the n-th send from one rank to another
goes into the n-th buffer that was opened there, whatever was meant; it is not through before; and
a buffer of another shape is an error. What deadlocks or swaps there, fails here.
"""

import threading
from collections import defaultdict, deque

import pytest
import torch
from torch.nn.functional import cross_entropy

from pipelab.action import COMPUTE, Action, Kind
from pipelab.engine.driver import plan
from pipelab.engine.driver.microbatches import Rule, deal
from pipelab.engine.protocol.commands import Options, Run
from pipelab.engine.protocol.device import Place
from pipelab.engine.protocol.progress import Progress
from pipelab.engine.rank.affinity import Seat
from pipelab.engine.rank.batch import Route
from pipelab.engine.rank.data_parallel import DataParallel
from pipelab.engine.rank.recorder import Recorder
from pipelab.engine.rank.session import Session
from pipelab.engine.transport.p2p import Messages
from pipelab.models import mlp
from pipelab.partition import split
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.simulator import Cost

NCCL = Place("cpu", "nccl")  # NCCL's rules, on the host
PATIENCE = 5.0


class Wire:
    """All channels between all ranks. With ``tags``, gloo's rules: by way of the host."""

    def __init__(self, tags):
        self.tags = tags
        self.sent = 0
        self.change = threading.Condition()
        self.sends, self.receives = defaultdict(deque), defaultdict(deque)

    def put(self, channel, tag, tensor, sends):
        key = (*channel, tag if self.tags else None)
        mine, other = (self.sends, self.receives) if sends else (self.receives, self.sends)
        work = Work(self.change, tensor)
        with self.change:
            self.sent += sends
            mine[key].append(work)
            while mine[key] and other[key]:
                source, goal = self.sends[key].popleft(), self.receives[key].popleft()
                same = (source.tensor.shape, source.tensor.dtype)
                source.crossed = goal.crossed = same != (goal.tensor.shape, goal.tensor.dtype)
                if not goal.crossed:
                    goal.tensor.copy_(source.tensor)
                source.done = goal.done = True
            self.change.notify_all()
        return work


class Work:
    def __init__(self, change, tensor):
        self.change, self.tensor, self.done, self.crossed = change, tensor, False, False

    def wait(self, timeout=None):
        with self.change:
            if not self.change.wait_for(lambda: self.done, PATIENCE):
                raise RuntimeError("deadlock: nobody meets this message")
        if self.crossed:
            raise RuntimeError("crossed: this message went into the buffer of another")


class End:
    """One rank's end of a wire, with the face of a transport."""

    def __init__(self, wire, rank):
        self.wire, self.rank, self.channels = wire, rank, set()

    def open(self, channels):
        self.channels.update(channels)

    def send(self, tensor, peer, tag):
        assert self.wire.tags or (self.rank, peer) in self.channels
        return self.wire.put((self.rank, peer), tag, tensor, sends=True)

    def receive(self, buffer, peer, tag):
        assert self.wire.tags or (peer, self.rank) in self.channels
        return self.wire.put((peer, self.rank), tag, buffer, sends=False)

    def finish(self, work, timeout):
        work.wait(timeout)

    def close(self):
        pass

    def buffer(self, shape, dtype):
        return torch.empty(shape, dtype=dtype)

    def outgoing(self, tensor):
        return tensor.detach().contiguous()

    def arrived(self, buffer):
        return buffer


def in_threads(calls):
    """The results of calls that run at once; the first error of any."""
    results, errors = [None] * len(calls), []

    def run(i):
        try:
            results[i] = calls[i]()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


@pytest.fixture
def sessions(tmp_path):
    """Opens a session for each rank of a schedule, on one ordered wire and one with tags."""

    def open_all(model, schedule, pace=None):
        wire, host, stages = Wire(tags=False), Wire(tags=True), split(model, schedule.num_stages)
        options = Options(cross_entropy, place=NCCL)
        found = []
        for rank, made in enumerate(plan.builds(stages, schedule, 1, options)):
            messages = Messages(End(wire, rank), End(host, rank), schedule.num_stages, PATIENCE)
            alone = DataParallel(None, None, PATIENCE)
            recorder = Recorder(rank, Progress(tmp_path, schedule.num_ranks))
            seat = Seat(rank, 1, threads=0)
            found.append(Session(recorder, messages, alone, seat, torch.device("cpu"), made))
        for session, use in zip(
            found, plan.uses(schedule, 1, pace, overlap=True, options=options), strict=True
        ):
            session.answer(use)
        return found, wire, host

    return open_all


def step(found, schedule, x, y, train=True, **options):
    rows, m = len(x), schedule.num_microbatches
    shares = deal(x, y, rows, m, 1, Rule())
    signature = (tuple(x.shape[1:]), x.dtype)
    runs = plan.runs(shares, schedule, {"train": train, "signature": signature} | options)
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
    schedule = build(name, p, m)
    stages = schedule.num_stages
    model, x, y = (
        mlp(width=8, depth=stages),
        torch.randn(2 * m + 1, 16),
        torch.arange(2 * m + 1) % 10,
    )
    found, wire, host = sessions(model, schedule)
    for rows in (len(x), len(x), max(m, len(x) - 1)):  # learning, knowing, and other sizes
        step(found, schedule, x[:rows], y[:rows], train=False)  # evaluation in between
        step(found, schedule, x[:rows], y[:rows])
        expected = plain_gradients(model, x[:rows], y[:rows], m)
        ours = {n: g for s in found for n, g in s.fetch("gradients").items()}
        assert ours.keys() == expected.keys()
        for parameter, gradient in expected.items():
            assert torch.allclose(ours[parameter], gradient, rtol=1e-5, atol=1e-7), parameter
    for each in (wire, host):
        assert not any(each.sends.values()) and not any(each.receives.values())


@pytest.mark.parametrize("train", [True, False])
def test_the_first_batch_of_a_kind_goes_by_way_of_the_host_and_no_other_does(train, sessions):
    # a GPU loads its kernels, and takes its memory, while no message of NCCL's waits on it
    schedule = build("1f1b", 2, 4)
    found, wire, host = sessions(mlp(width=8, depth=2), schedule)
    values = 4 * (1 + train)  # activations, and their gradients
    x, y = torch.randn(9, 16), torch.arange(9)

    def sent(rows, **options):
        before = wire.sent, host.sent
        step(found, schedule, x[:rows], y[:rows], train, **options)
        return wire.sent - before[0], host.sent - before[1]

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
        found, plan.uses(build("gpipe", 2, 4), 1, None, True, options), strict=True
    ):
        session.answer(use)
    assert sent(8) == (0, values)
    assert sent(8) == (values, 0)


def test_paced_messages_keep_their_order_too(sessions):
    schedule, model = build("1f1b", 3, 4), mlp(width=8, depth=3)
    found, _, _ = sessions(model, schedule, pace=Cost(0.001, 0.001, 0.001, latency=0.001))
    x, y = torch.randn(8, 16), torch.arange(8)
    for _ in range(2):
        losses = [done.loss for done in step(found, schedule, x, y) if done.loss is not None]
    assert losses == [pytest.approx(cross_entropy(model(x), y).item(), rel=1e-5)]


def test_a_rank_gives_way_after_each_send_and_before_whatever_keeps_it_busy(sessions):
    schedule, turns = build("interleaved", 2, 4), {}
    found, _, _ = sessions(mlp(width=8, depth=schedule.num_stages), schedule)
    for session in found:
        mine = turns[session] = []
        session.seat.give_way = lambda r=session.recorder, mine=mine: mine.append(r.action)
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
    session.routes[True] = Route(tuple(row), route.home)


def test_the_double_notices_buffers_that_are_opened_in_another_order(sessions, monkeypatch):
    monkeypatch.setitem(globals(), "PATIENCE", 1.0)
    schedule = build("gpipe", 2, 4)
    found, _, _ = sessions(mlp(width=8, depth=2), schedule)
    post_later(found[1], Action(1, Kind.RECV_F, 0), behind=Action(1, Kind.RECV_F, 1))
    x, y = torch.randn(9, 16), torch.arange(9)  # microbatches of 3, 2, 2 and 2 rows
    step(found, schedule, x, y)  # by way of the host: tags forgive it
    with pytest.raises(RuntimeError, match="crossed"):
        step(found, schedule, x, y)


def test_the_double_notices_two_ranks_that_both_wait(sessions, monkeypatch):
    monkeypatch.setitem(globals(), "PATIENCE", 0.5)
    schedule = build("1f1b", 2, 4)
    found, _, _ = sessions(mlp(width=8, depth=2), schedule)
    x, y = torch.randn(8, 16), torch.arange(8)
    step(found, schedule, x, y)
    for session in found:
        session.worker.overlap = False
    step(found, schedule, x, y)  # sends that block run, since buffers are open before them
    post_later(found[0], Action(0, Kind.RECV_B, 1), behind=Action(0, Kind.SEND_F, 2))
    post_later(found[1], Action(1, Kind.RECV_F, 2), behind=Action(1, Kind.SEND_B, 1))
    with pytest.raises(RuntimeError, match="deadlock"):
        step(found, schedule, x, y)

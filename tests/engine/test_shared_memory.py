"""Messages through shared memory: bytes in order, no deadlock, no wait for who has ended."""

import ctypes
import os
import threading
import time
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from pipelab.action import Action
from pipelab.engine import Pipeline, verify_gradients
from pipelab.engine.protocol.commands import Run
from pipelab.engine.transport import shared_memory
from pipelab.engine.transport.backends import MessageError
from pipelab.engine.transport.ring_messages import RingMessages
from pipelab.engine.transport.rings import Rings
from pipelab.engine.transport.shared_memory import Ring, SharedFiles
from pipelab.errors import RankError
from pipelab.partition.tree import flatten
from pipelab.schedules import gpipe
from pipelab.schedules.catalogue import build
from tests.engine.in_process import in_threads
from tests.engine.one_process import assert_same, batch, gradients, linears, plain_loop

SMALL = 1 << 10  # bytes of a ring, so that tests meet its end


@pytest.fixture
def small_rings(monkeypatch):
    monkeypatch.setattr(shared_memory, "RING_BYTES", SMALL)


def ranks(number=2, timeout=5.0):
    """Each rank's messages, in one process: the files are as good as handed over."""
    files = SharedFiles(number)
    found = [
        RingMessages(Rings(rank, shared, timeout)) for rank, shared in enumerate(files._shared)
    ]
    for messages in found:
        messages.use([(a, b) for a in range(number) for b in range(number) if a != b])
        messages.begin(Run(True, None, None, (1,), (1.0,), ()), stamped=False)
    return files, found


@pytest.fixture
def pair():
    files, found = ranks()
    yield found
    files.close()


def send(messages, token, tensor, peer):
    return messages.send(Action.parse(token), flatten(tensor), peer, rows=1, stamp=0.0)


def take(messages, token):
    return messages.wait(Action.parse(token), rows=1)[0]


def post(messages, token, peer):
    messages.post(Action.parse(token), peer, rows=1)


# ----------------------------------------------------------------------------- rings


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3 * SMALL)), max_size=30), st.randoms())
@settings(max_examples=60, deadline=None)
def test_a_ring_hands_over_all_bytes_in_order(turns, random):
    before, shared_memory.RING_BYTES = shared_memory.RING_BYTES, SMALL
    files = SharedFiles(2)
    try:
        memory = files._shared[0].memory
        writer, reader = Ring(memory, 1), Ring(memory, 1)
        sent, came = bytearray(), bytearray()
        for writes, size in turns:
            if writes:
                data = random.randbytes(size)
                source = ctypes.create_string_buffer(data)
                count = writer.write(ctypes.addressof(source), size)
                assert count == size or writer.room == 0
                sent += data[:count]
                writer.publish()
            else:
                buffer = ctypes.create_string_buffer(size)
                count = reader.read(ctypes.addressof(buffer), size)
                reader.free()
                came += buffer.raw[:count]
        left = len(sent) - len(came)
        buffer = ctypes.create_string_buffer(left + 1)
        assert reader.read(ctypes.addressof(buffer), left + 1) == left
        assert came + buffer.raw[:left] == sent
        reader.free()
        assert writer.room == SMALL
    finally:
        shared_memory.RING_BYTES = before
        files.close()


def test_a_ring_takes_up_what_was_ever_in_flight(pair):
    memory = pair[0].rings._memory
    for number in range(40):
        post(pair[1], f"1RECV_F{number}", 0)
        send(pair[0], f"0SEND_F{number}", torch.ones(100_000), 1)
        take(pair[1], f"1RECV_F{number}")
    assert os.fstat(memory).st_blocks * 512 < 2 * 400_000, "40 messages of 400 kB, one at a time"


# ------------------------------------------------------------------------- messages


TREES = [
    torch.randn(3, 4, dtype=torch.complex64).conj(),
    torch.randn(4, 5).T,
    {"a": torch.zeros(0, 3), "b": (torch.tensor(True), [torch.randn(2).bfloat16(), None])},
    torch.tensor(5),
]


@pytest.mark.parametrize("tree", TREES, ids=["conjugated", "strided", "nested", "number"])
def test_any_tree_arrives_as_it_was(pair, tree):
    for _ in range(3):  # from the second one on its head is known
        post(pair[1], "1RECV_F0", 0)
        send(pair[0], "0SEND_F0", tree, 1)
        came, sent = take(pair[1], "1RECV_F0"), flatten(tree)
        assert came.form == sent.form
        assert all(torch.equal(a, b) for a, b in zip(came.tensors, sent.tensors, strict=True))
        assert [t.stride() for t in came.tensors] == [t.stride() for t in sent.tensors]


def test_two_ranks_that_send_more_than_fits_do_not_wait_for_each_other(pair, small_rings):
    """Each takes what comes for its open receives while its own send waits for room."""
    data = [torch.randn(5000), torch.randn(5000)]

    def exchange(rank):
        number = [0, 1][rank]
        kinds = [("0SEND_F", "0RECV_B"), ("1SEND_B", "1RECV_F")][rank]
        for microbatch in range(20):
            post(pair[rank], f"{kinds[1]}{microbatch}", 1 - rank)
            send(pair[rank], f"{kinds[0]}{microbatch}", data[number], 1 - rank)
            came = take(pair[rank], f"{kinds[1]}{microbatch}")
            tensors = came if isinstance(came, list) else came.tensors
            assert torch.equal(tensors[0], data[1 - number])

    in_threads([lambda: exchange(0), lambda: exchange(1)])


def test_a_send_without_room_waits_for_its_receive_and_no_longer(pair, small_rings):
    opened = []

    def open_later():
        time.sleep(0.2)
        opened.append(time.monotonic())
        post(pair[1], "1RECV_F0", 0)
        return take(pair[1], "1RECV_F0").tensors[0].numel()

    def send_now():
        send(pair[0], "0SEND_F0", torch.zeros(1000), 1)
        return time.monotonic()

    sent, count = in_threads([send_now, open_later])
    assert count == 1000 and sent > opened[0]


def test_without_overlap_a_send_blocks_until_its_buffer_is_open(pair):
    send(pair[0], "0SEND_F0", torch.zeros(3), 1)
    thread = threading.Thread(target=pair[0].block, args=(Action.parse("0SEND_F0"),))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    post(pair[1], "1RECV_F0", 0)
    thread.join(5.0)
    assert not thread.is_alive()


def test_a_message_out_of_place_is_an_error_and_never_taken(pair):
    post(pair[1], "1RECV_F1", 0)
    send(pair[0], "0SEND_F0", torch.zeros(3), 1)
    wanted = (
        "rank 0 sent the value of microbatch 0 between stages 0 and 1 in place of the "
        "value of microbatch 1 between stages 0 and 1"
    )
    with pytest.raises(MessageError, match=wanted):
        take(pair[1], "1RECV_F1")


def test_a_message_in_the_place_of_one_that_came_before_is_an_error_too(pair):
    for _ in range(2):
        post(pair[1], "1RECV_F1", 0)
        send(pair[0], "0SEND_F1", torch.zeros(3), 1)
        take(pair[1], "1RECV_F1")
    post(pair[1], "1RECV_F1", 0)
    send(pair[0], "0SEND_F0", torch.zeros(3), 1)
    with pytest.raises(MessageError, match="sent the value of microbatch 0 between"):
        take(pair[1], "1RECV_F1")


def test_a_wait_ends_in_time_or_at_once_when_the_other_end_has_died():
    files, (one, _) = ranks(timeout=0.2)
    post(one, "0RECV_B0", 1)
    with pytest.raises(MessageError, match="0RECV_B0: the message with rank 1 failed: not co") as e:
        take(one, "0RECV_B0")
    assert e.value.timed_out and e.value.peer == 1
    one.rings.timeout = 60.0
    post(one, "0RECV_B1", 1)
    threading.Timer(0.1, os.close, (files._shared[1].own_lifeline,)).start()
    files._opened.remove(files._shared[1].own_lifeline)
    started = time.monotonic()
    with pytest.raises(MessageError, match="its process has ended") as e:
        take(one, "0RECV_B1")
    assert not e.value.timed_out and time.monotonic() - started < 5.0
    files.close()


def test_what_was_sent_before_the_end_still_arrives():
    files, (one, two) = ranks()
    post(two, "1RECV_F0", 0)
    post(two, "1RECV_F1", 0)
    send(one, "0SEND_F0", torch.ones(3), 1)
    os.close(files._shared[0].own_lifeline)
    files._opened.remove(files._shared[0].own_lifeline)
    assert take(two, "1RECV_F0").tensors[0].sum() == 3
    with pytest.raises(MessageError, match="its process has ended"):
        take(two, "1RECV_F1")
    files.close()


def test_a_number_is_added_up_over_all_ranks():
    files, found = ranks(4)
    values = [0.1, 0.2, 1e9, -1e9]
    totals = in_threads([partial(m.rings.total, v) for m, v in zip(found, values, strict=True)])
    assert totals == [sum(values)] * 4
    files.close()


def test_where_there_is_no_eventfd_and_no_memfd(monkeypatch):
    """As on macOS."""
    monkeypatch.delattr(os, "eventfd", raising=False)
    monkeypatch.delattr(os, "memfd_create", raising=False)
    model, (x, y) = linears(4), batch(8)
    assert verify_gradients(model, build("1f1b", 2, 4), x, y, cross_entropy).ok


# ------------------------------------------------------------------------ pipelines


class Trim(nn.Module):
    """Cuts off the columns in which all rows of its microbatch are 0: padding."""

    def forward(self, x):
        return x[:, : int((x != 0).any(0).nonzero().max()) + 1].contiguous()


class Widen(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8) / 8)

    def forward(self, x):
        return torch.tanh(x @ self.weight[: x.shape[1]])[:, None]


@pytest.mark.parametrize("name", ["gpipe", "1f1b", "zero_bubble_h1"])
def test_shapes_may_change_from_microbatch_to_microbatch(name):
    x = torch.rand(8, 8) + 0.1
    for row, length in enumerate((8, 8, 3, 2, 5, 5, 1, 1)):
        x[row, length:] = 0
    y, model = torch.rand(8, 1), nn.Sequential(Trim(), Widen())
    plain_loop(model, x, y, 4, loss=mse_loss)
    with Pipeline(model, build(name, 2, 4), loss=mse_loss) as pipeline:
        for _ in range(3):
            pipeline.step(x, y)
            assert_same(pipeline.gradients(), gradients(model))
            x, y = x.flip(0), y.flip(0)
            model.zero_grad()
            plain_loop(model, x, y, 4, loss=mse_loss)


class Changes(nn.Module):
    """Gives another dtype from its second call on."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype, self.calls = dtype, 0

    def forward(self, x):
        self.calls += 1
        return x.to(self.dtype) if self.calls > 1 else x


def test_another_dtype_is_refused_where_it_leaves():
    model = nn.Sequential(nn.Sequential(nn.Linear(8, 8), Changes(torch.float64)), nn.Linear(8, 8))
    with (
        pytest.raises(RankError, match=r"rank 0 failed in 0SEND_F1 .*torch.float64, but the last"),
        Pipeline(model, gpipe(2, 2), loss=cross_entropy) as pipeline,
    ):
        pipeline.step(torch.randn(4, 8), torch.randint(8, (4,)))


def test_messages_larger_than_the_ring_in_a_pipeline():
    """A pipeline's own ring, of 32 MB: a value and a gradient of 40 MB go in pieces."""
    width = 5_000_000
    model = nn.Sequential(Spread(width), Gather(width))
    x, y = torch.randn(4, 1), torch.randn(4, 1)
    plain_loop(model, x, y, 2, loss=mse_loss)
    with Pipeline(model, build("1f1b", 2, 2), loss=mse_loss) as pipeline:
        pipeline.step(x, y)
        assert_same(pipeline.gradients(), gradients(model))


class Spread(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale, self.width = nn.Parameter(torch.ones(1)), width

    def forward(self, x):
        return (x * self.scale).expand(-1, self.width).contiguous()


class Gather(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.shift, self.width = nn.Parameter(torch.zeros(1)), width

    def forward(self, x):
        return x.mean(1, keepdim=True) + self.shift

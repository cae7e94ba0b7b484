"""Child processes of a script that uses pipelab: a loader's, a pool's, those of os.fork."""

import multiprocessing
import os
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

from pipelab.engine import Pipeline
from pipelab.engine.launch import fork_server
from pipelab.errors import PipelineClosed
from pipelab.models import mlp
from pipelab.schedules import one_f_one_b
from tests.faults.leftovers import Held, gone, nothing_more

X, Y = torch.arange(64.0).reshape(4, 16) / 64, torch.tensor([1, 2, 3, 4])
RATES = (0.1, 0.2)


def open_pipeline(rate=0.1):
    torch.manual_seed(0)
    optimizer = partial(torch.optim.SGD, lr=rate)
    return Pipeline(mlp(), one_f_one_b(2, 2), loss=cross_entropy, optimizer=optimizer)


def train(rate):
    """Two steps, as a sweep's worker does; and the processes that this took."""
    with open_pipeline(rate) as pipeline:
        losses = [pipeline.step(X, Y).loss for _ in range(2)]
        return losses, [*pipeline.pids, fork_server.pid()]


def say_whether_a_server_runs(pipe):
    pipe.send(fork_server.pid())


def train_and_say(pipe):
    pipe.send(train(0.1))


def answer_of(method, target):
    """What a child process sends, whose start imports this module and with it the engine."""
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(target=target, args=(theirs,))
    child.start()
    theirs.close()
    answer = ours.recv()  # EOFError: it died
    child.join()
    assert child.exitcode == 0
    return answer


def in_fork(call):
    """What a call returns, or raises, in a forked child, which then collects what it inherited."""
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            text = str(call())
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        text = file.read()
    os.wait()
    return text


def test_a_spawned_worker_may_import_the_engine_and_starts_no_server():
    """Each loader's worker died while it started: a process may start none before it has."""
    assert answer_of("spawn", say_whether_a_server_runs) is None


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_child_of_any_kind_trains(method):
    losses, pids = answer_of(method, train_and_say)
    assert losses == train(0.1)[0]
    assert gone(pids)


def test_a_sweep_in_a_pool_gives_the_same_losses_and_leaves_nothing():
    """A pool's workers are daemonic; and what they inherited of their parent is not theirs."""
    with open_pipeline() as pipeline:
        first = pipeline.step(X, Y).loss
        wanted = [train(rate)[0] for rate in RATES]
        before = Held.now()
        with multiprocessing.get_context("fork").Pool(1) as pool:
            found = pool.map(train, RATES)
        pool.join()
        del pool  # with its pipes
        assert [losses for losses, _ in found] == wanted
        assert gone({pid for _, pids in found for pid in pids})
        assert nothing_more(before) is None
        assert first == wanted[0][0] and pipeline.step(X, Y).loss == wanted[0][1]


def test_a_forked_child_cannot_use_nor_end_the_pipeline_of_its_parent():
    """To collect the copy ended the parent's ranks; to use it mixed up their answers."""
    pipeline = open_pipeline()
    words = in_fork(lambda: pipeline.step(X, Y))
    assert words.startswith("PipelineClosed: this pipeline is closed (it belongs to the process")
    assert "closed (it belongs to the process" in in_fork(lambda: pipeline)
    in_fork(pipeline.close)
    in_fork(pipeline._ranks.close)
    in_fork(pipeline._ranks._end)
    assert in_fork(fork_server.pid) == "None"
    assert pipeline.step(X, Y).loss > 0
    pids = pipeline.pids
    pipeline.close()
    assert gone(pids)
    with pytest.raises(PipelineClosed, match="is closed: open a new"):
        pipeline.step(X, Y)
    assert "is closed: open a new" in in_fork(lambda: pipeline.step(X, Y))


def test_a_forked_child_keeps_its_files_where_a_pipeline_had_been_closed():
    """The numbers of a closed pipeline's files belong to others by then."""
    pipeline = open_pipeline()
    pipeline.close()
    files = [os.pipe() for _ in range(40)]

    def usable():
        return all(os.write(write, b"?") and os.read(read, 1) for read, write in files)

    assert in_fork(usable) == "True"
    for pair in files:
        for file in pair:
            os.close(file)

"""The fork server ends when nobody needs it, and no launch is lost by that."""

import time
from multiprocessing import Pipe
from socket import send_fds, socketpair

import pytest
import torch

from pipelab.engine import Pipeline
from pipelab.engine.launch import fork_server, server_process
from pipelab.engine.launch.child import Child
from pipelab.errors import LaunchError
from pipelab.schedules import gpipe


def pipeline():
    return Pipeline([torch.nn.Linear(2, 2)], gpipe(1, 1), loss=torch.nn.functional.mse_loss)


def train(pipeline):
    pipeline.step(torch.ones(1, 2), torch.ones(1, 2))


def test_an_idle_server_ends_and_the_next_launch_starts_another(monkeypatch):
    monkeypatch.setattr(fork_server, "_home", fork_server._Home())  # the one that runs stays
    monkeypatch.setenv("PIPELAB_IDLE", "0.3")
    try:
        with pipeline() as used:
            time.sleep(1.0)
            train(used)
            first = fork_server.pid()
            assert fork_server.is_up(), "it has a child"
        until = time.monotonic() + 60.0
        while fork_server.is_up() and time.monotonic() < until:
            time.sleep(0.1)
        assert not fork_server.is_up()
        with pipeline() as used:
            train(used)
            assert fork_server.pid() != first
    finally:
        fork_server.end()


def test_a_request_that_crosses_the_end_is_answered():
    ours, its = socketpair()
    request, status, its_status = (*Pipe(duplex=False)[:1], *Pipe(duplex=False))
    with ours, its, request, status, its_status:
        send_fds(ours, [b"f"], [request.fileno(), its_status.fileno()])
        server_process._refuse_more(its)
        with pytest.raises(ConnectionError):
            Child(status)
        with pytest.raises(ConnectionError):
            send_fds(ours, [b"f"], [request.fileno(), its_status.fileno()])


def test_a_request_that_was_not_read_is_made_again(monkeypatch):
    answers = [ConnectionResetError(), "a child"]

    def fork(name, call):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(fork_server, "_fork", fork)
    assert fork_server.fork("name", print) == "a child"
    answers = [ConnectionResetError(), ConnectionResetError()]
    with pytest.raises(LaunchError, match="has ended"):
        fork_server.fork("name", print)

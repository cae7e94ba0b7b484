"""One deadline, and one cause for each failure, whatever kind of ranks it is."""

import pickle
import time
from dataclasses import replace

import pytest
import torch
from torch.distributed import HashStore

from pipelab.action import Action, Kind
from pipelab.engine.failures.cause import cause
from pipelab.engine.failures.deadline import Deadline
from pipelab.engine.failures.findings import Absent, Findings, State
from pipelab.engine.protocol.commands import Done
from pipelab.engine.protocol.failure import Failure, FailureKind
from pipelab.engine.protocol.progress import Begun, Progress, Wanted
from pipelab.engine.rank.memory_budget import OverBudget
from pipelab.engine.rank.raised import failure_of
from pipelab.engine.rank.recorder import Recorder
from pipelab.engine.transport import groups
from pipelab.engine.transport.backends import MessageError, named
from pipelab.errors import RankDied, RankError, RankOutOfMemory, RankTimeout
from tests.engine.in_process import in_threads

BUG = Failure(FailureKind.EXCEPTION, "KeyError: 'x'", "'x'", Action(1, Kind.F, 2))
LOST = Failure(
    FailureKind.LOST_PEER, "MessageError: closed by peer", "", Action(0, Kind.B, 0), peer=1
)
LATE = replace(LOST, kind=FailureKind.TIMED_OUT)
AT = Begun(9, Action(1, Kind.F, 3))
SILENT, ALIVE = Absent(State.SILENT), Absent(State.ALIVE)


def cause_of(answers, absent=None, begun=AT):
    """The error of a call to as many ranks as there are answers or absent ranks."""
    absent = absent or {}
    found = {rank: answer for rank, answer in enumerate(answers) if answer is not None}
    ranks = max([*found, *absent]) + 1
    return cause(Findings([None] * ranks, found, absent, [begun] * ranks, 30.0, runs_script=True))


def test_all_is_well():
    assert cause_of([Done(), Done()]) is None


def test_a_bug_comes_before_its_consequences():
    error = cause_of([LOST, BUG, LATE], {3: SILENT})
    assert (error.rank, error.action, error.stage, error.microbatch) == (1, "1F2", 1, 2)
    assert "KeyError" in str(error) and "closed by peer" not in str(error)


@pytest.mark.parametrize(
    ("absent", "begun", "kind", "words"),
    [
        (SILENT, Begun(), RankDied, "rank 2 died without an answer: no heartbeat"),
        (SILENT, AT, RankDied, r"rank 2 died in 1F3 \(.*\) without an answer: no heartbeat"),
        (ALIVE, AT, RankTimeout, "no answer for 30 s(.*\n)*  rank 2 is in 1F3(.*\n)*.*on rank 2"),
        (Absent(State.CLOSED, reason="ValueError: no file"), AT, RankError,
         "rank 2 has left.*ValueError: no f"),
        (Absent(State.ENDED, -9), AT, RankDied, "rank 2 died in 1F3.*killed by signal 9"),
    ],
)  # fmt: skip
def test_a_rank_without_an_answer(absent, begun, kind, words):
    error = cause_of([LOST, Done()], {2: absent}, begun)
    assert type(error) is kind and error.rank == 2
    with pytest.raises(kind, match=words):
        raise error


def test_a_dead_rank_comes_before_one_that_hangs_for_it():
    error = cause_of([LOST], {1: ALIVE, 2: SILENT})
    assert isinstance(error, RankDied) and error.rank == 2


def test_a_broken_connection_between_ranks_that_all_live():
    error = cause_of([Done(), LOST])
    assert error.rank == 1 and "closed by peer" in str(error)
    assert "rank 1 lost its connection with rank 1" in str(error)


def test_ranks_that_all_gave_up_to_wait_are_shown_with_what_they_wait_for():
    error = cause_of([LATE, LATE])
    assert isinstance(error, RankTimeout) and "no answer for 30 s" in str(error)


def test_an_error_s_fields_survive_pickling_and_need_no_text():
    for error in (
        cause_of([BUG]),
        cause_of([replace(BUG, kind=FailureKind.OVER_BUDGET, reason="9 bytes of 8")]),
        cause_of([replace(BUG, action=Action(1, Kind.STEP))]),
        cause_of([replace(BUG, action=None)]),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert (str(copy), vars(copy)) == (str(error), vars(error))
    assert isinstance(cause_of([replace(BUG, kind=FailureKind.OVER_BUDGET)]), RankOutOfMemory)
    step = cause_of([replace(BUG, action=Action(1, Kind.STEP))])
    assert (step.action, step.stage, step.microbatch) == ("1STEP", 1, None)


def test_what_a_learner_s_exception_says_decides_nothing():
    # a learner's own "Timed out" was once taken for a lost message
    confusing = replace(BUG, summary="RuntimeError: Timed out, WAIT, OverBudget: 1STEP")
    error = cause_of([LOST, confusing])
    assert type(error) is RankError and (error.rank, error.action) == (1, "1F2")


@pytest.mark.parametrize(
    ("error", "kind", "peer"),
    [
        (KeyError("Timed out"), FailureKind.EXCEPTION, None),
        (RuntimeError("CUDA out of memory"), FailureKind.EXCEPTION, None),
        (MessageError("closed", 2), FailureKind.LOST_PEER, 2),
        (MessageError("closed", 2, timed_out=True), FailureKind.TIMED_OUT, 2),
        (MessageError("closed"), FailureKind.LOST_PEER, None),
        (MessageError("closed", timed_out=True), FailureKind.TIMED_OUT, None),
        (OverBudget("9 bytes"), FailureKind.OVER_BUDGET, None),
        (torch.OutOfMemoryError("full"), FailureKind.OUT_OF_MEMORY, None),
    ],
)
def test_a_failure_is_classified_by_its_type_where_it_is_raised(error, kind, peer, tmp_path):
    recorder = Recorder(0, Progress(tmp_path, 1))
    recorder.record(Action(0, Kind.F, 1)).__enter__()
    failure = failure_of(recorder, error)
    assert (failure.kind, failure.peer, failure.action) == (kind, peer, Action(0, Kind.F, 1))


def test_a_message_of_gloo_s_that_does_not_come_is_late_not_lost():
    store = HashStore()
    ranks = [lambda r=r: groups.meet(store, r, 2, replicas=1, address="127.0.0.1") for r in (0, 1)]
    one, _other = in_threads(ranks)
    work = one.everyone.recv([torch.zeros(1)], 1, 0)  # nobody sends
    with pytest.raises(MessageError) as caught, named(Action(0, Kind.RECV_F, 0), 0):
        groups.wait(work, 0.1)
    assert caught.value.timed_out

    class Broken:
        def wait(self, timeout):
            raise RuntimeError("Connection closed by peer: Timed out")

    with pytest.raises(MessageError) as caught, named(Action(0, Kind.RECV_F, 0), 0):
        groups.wait(Broken(), 5.0)
    assert not caught.value.timed_out


# ------------------------------------------------------------------------------- the deadline


def began(*numbers):
    return [Begun(number) for number in numbers]


def test_a_deadline_is_put_off_while_a_rank_begins_something(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    deadline = Deadline(10.0)
    deadline.note(began(0, 0))
    now = 109.0
    deadline.note(began(0, 1))  # it moves
    assert deadline.left() == 10.0
    now = 118.0
    deadline.note(began(0, 1))
    assert deadline.left() == 1.0 and not deadline.is_over()
    now = 119.0
    assert deadline.is_over()


def test_after_a_failure_nothing_puts_the_end_off(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    deadline = Deadline(10.0)
    deadline.note(began(0))
    deadline.end_within(3.0)
    now = 102.0
    deadline.end_within(3.0)  # another rank failed, later
    deadline.note(began(1))
    assert deadline.left() == 1.0
    now = 103.0
    assert deadline.is_over()


# ----------------------------------------------------------------------- who waits for whom


def waits(number, stage, microbatch, message, peer):
    return Begun(number, Action(stage, Kind.WAIT, microbatch), 0.0, Wanted(message, peer))


def test_a_stopped_process_is_blamed_before_a_busy_one_and_one_that_waits_last():
    begun = [
        waits(3, 0, 0, Action(1, Kind.SEND_B, 0), 1),
        Begun(5, Action(1, Kind.F, 1)),
        Begun(5, Action(2, Kind.F, 1)),
    ]

    def blamed(**states):
        absent = {int(name[1]): Absent(state) for name, state in states.items()}
        return cause(Findings([None] * 3, {}, absent, begun, 1.0))

    error = blamed(r0=State.ALIVE, r1=State.ALIVE, r2=State.STOPPED)
    assert error.rank == 2 and "Rank 2 was stopped from outside" in str(error)
    error = blamed(r0=State.ALIVE, r1=State.ALIVE, r2=State.ALIVE)
    assert error.rank == 1 and "Look for an endless loop on rank 1, or give" in str(error)
    assert "rank 0 waits for a message, 1SEND_B0 from rank 1" in str(error)


def test_a_message_that_is_under_way_is_no_ring():
    """On a busy machine a large message was slow, and "they wait for each other in a ring" said."""
    last, first = Action(0, Kind.SEND_F, 1), Action(1, Kind.SEND_B, 0)
    sends = Begun(3, last, 0.0, Wanted(last, 1))
    begun = [sends, waits(3, 1, 1, last, 0), waits(3, 2, 0, Action(1, Kind.SEND_F, 0), 1)]
    text = str(cause(Findings([None] * 3, {}, dict.fromkeys(range(3), ALIVE), begun, 1.0)))
    assert "ring" not in text and "loop" not in text
    assert "Still under way: 0SEND_F1. Use smaller messages or a machine that is less" in text
    begun[1] = Begun(3, first, 0.0, Wanted(first, 0))  # both send first: each waits for another one
    text = str(cause(Findings([None] * 3, {}, dict.fromkeys(range(3), ALIVE), begun, 1.0)))
    assert "in a ring: rank 0 -> rank 1 -> rank 0" in text and "under way" not in text


def test_a_rank_that_waits_for_a_tied_weight_says_so():
    begun = [Begun(5, Action(0, Kind.STEP)), waits(3, 3, None, Action(0, Kind.STEP), 0)]
    text = str(cause(Findings([None] * 2, {}, {0: ALIVE, 1: ALIVE}, begun, 1.0)))
    assert "rank 1 waits for a tied weight, which 0STEP of rank 0 updates, for stage 3" in text
    assert "Look for an endless loop on rank 0" in text


def test_a_rank_that_answered_is_not_blamed():
    begun = [Begun(5, Action(0, Kind.F, 1)), waits(3, 1, 0, Action(0, Kind.SEND_F, 0), 0)]
    error = cause(Findings([None] * 2, {0: Done()}, {1: ALIVE}, begun, 1.0))
    assert error.rank == 1 and "rank 0 has finished" in str(error)

"""The answers of torchrun's ranks, and the cause of a failure: one, the same for all ranks."""

import threading
import time
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.distributed import HashStore

from pipelab.action import Action, Kind
from pipelab.engine.failures.cause import cause
from pipelab.engine.failures.findings import Absent, Findings, State
from pipelab.engine.protocol.commands import Build, Done, Fetch, Options, Run
from pipelab.engine.protocol.device import Place
from pipelab.engine.protocol.failure import Failure, FailureKind
from pipelab.engine.protocol.progress import Begun
from pipelab.engine.torchrun import store as module
from pipelab.engine.torchrun.fingerprint import difference, fingerprint
from pipelab.engine.torchrun.store import Answer, AnswerStore
from pipelab.errors import RankDied, RankError, RankTimeout

ASKED = ("Run", 7)
FINE = Answer(Done(), ASKED)
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


def test_other_data_or_another_call_is_an_error():
    assert difference({0: ASKED, 1: ASKED}) is None
    assert "rank 1 has another batch than rank 0" in str(difference({0: ASKED, 1: ("Run", 8)}))
    words = "rank 2 was asked to give its state or gradients when rank 0 was asked to run a batch"
    assert words in str(difference({0: ASKED, 1: ASKED, 2: ("Fetch", 7)}))
    assert "to do Unknown" in str(difference({0: ASKED, 1: ("Unknown", 7)}))


# ------------------------------------------------------------------------------ fingerprints


def test_a_machine_with_other_gpus_is_no_equal():
    there, here = (
        fingerprint([Build({}, 1, Options(loss=torch.sum, place=place))])
        for place in (Place("cuda", "nccl"), Place("cpu", "gloo"))
    )
    assert there[0] == here[0] == "Build" and there[1] != here[1]


def run(inputs, targets):
    return Run(True, inputs, targets, (2, 2), (0.5, 0.5), ())


def test_the_fingerprint_sees_one_number_of_a_batch_and_of_a_model():
    x = torch.zeros(4, 3)
    y = x.clone()
    y[3, 2] = 1.0
    assert fingerprint([run(x, None), run(None, x)]) == fingerprint([run(x, None), run(None, x)])
    assert fingerprint([run(x, None), run(None, x)]) != fingerprint([run(x, None), run(None, y)])
    assert fingerprint([run({"a": x}, None)]) != fingerprint([run({"a": y}, None)])
    assert fingerprint([run(x, None)]) != fingerprint([run(x.reshape(3, 4), None)])
    assert fingerprint([Fetch("gradients")]) != fingerprint([Fetch("parameters")])
    torch.manual_seed(0)
    one, other = (Build({0: nn.Linear(2, 2)}, 1, Options(nn.functional.mse_loss)) for _ in "ab")
    assert fingerprint([one]) != fingerprint([other])


@pytest.mark.parametrize("dtype", [torch.int64, torch.bfloat16, torch.bool])
def test_the_fingerprint_reads_any_dtype(dtype):
    x = torch.tensor([0, 1, 0]).to(dtype)
    assert fingerprint([run(x, None)]) != fingerprint([run(x.flip(0).logical_not(), None)])
    assert fingerprint([run(torch.zeros(0, 3), None)])[0] == "Run"
    assert fingerprint([run(torch.zeros(4000, 3).T, None)])[0] == "Run"


# --------------------------------------------------------------------------------- the store


@pytest.fixture
def stores(monkeypatch):
    """Three ranks on one store; ``at`` is where each of them is. Time runs ten times as fast."""
    store = HashStore()
    monkeypatch.setattr(module, "_connect", lambda name: store)
    for name, seconds in {"_INTERVAL": 0.05, "_SILENT": 0.2, "_GRACE": 0.3}.items():
        monkeypatch.setattr(module, name, seconds)
    made = []
    for rank in range(3):
        at = [0, None]
        one = AnswerStore(rank, 3, lambda at=at: Begun(*at))
        one.at = at
        made.append(one)
        one.open("test")
    yield made
    for one in made:
        one.close("the test is over")


def test_all_answers_are_read_by_all_and_old_ones_are_deleted(stores):
    for number in range(4):
        for one in stores:
            one.publish(Answer(number, ASKED))
        for one in stores:
            answers = one.collect(timeout=5.0)
            assert [answer.content for answer in answers.found.values()] == [number] * 3
            assert answers.absent == {}
    assert not stores[0].store.check(["answer 2 0"]) and stores[0].store.check(["answer 4 0"])


def test_a_rank_that_advances_is_waited_for_beyond_the_deadline(stores):
    def work():
        for _ in range(10):
            time.sleep(0.1)
            stores[2].at[0] += 1
        stores[2].publish(FINE)

    stores[0].publish(FINE)
    stores[1].publish(FINE)
    worker = threading.Thread(target=work)
    worker.start()
    assert stores[0].collect(timeout=0.5).absent == {}  # the work takes 1 s
    worker.join()


def test_a_rank_that_hangs_and_one_that_is_gone_differ(stores):
    stores[1].at[:] = AT[:2]
    stores[2]._closed.set()  # sends no heartbeat any more
    time.sleep(0.1)
    stores[0].publish(Answer(LOST, ASKED))
    started = time.monotonic()
    answers = stores[0].collect(timeout=60.0)
    assert time.monotonic() - started < 5  # somebody failed: the others have only a moment left
    assert set(answers.found) == {0} and set(answers.absent) == {1, 2}
    assert answers.begun[1] == AT and answers.absent[1].state is State.ALIVE
    assert answers.absent[2].state is State.SILENT


def test_a_rank_that_hangs_is_given_up_at_the_deadline(stores):
    stores[0].publish(FINE)
    stores[1].publish(FINE)
    started = time.monotonic()
    answers = stores[0].collect(timeout=0.3)
    assert 0.3 <= time.monotonic() - started < 5
    assert {rank: absent.state for rank, absent in answers.absent.items()} == {2: State.ALIVE}


def test_a_rank_that_closed_its_pipeline_is_not_waited_for(stores):
    stores[0].publish(FINE)
    stores[1].close("ValueError: no file")
    started = time.monotonic()
    answers = stores[0].collect(timeout=60.0)
    assert time.monotonic() - started < 5
    assert answers.absent[1] == Absent(State.CLOSED, reason="ValueError: no file")


def test_a_store_that_is_gone_ends_the_waiting(stores):
    class Gone:
        def __getattr__(self, name):
            raise RuntimeError("Connection reset by peer")

    stores[0].publish(Answer(LOST, ASKED))
    stores[0].store = Gone()
    answers = stores[0].collect(timeout=60.0)
    assert isinstance(cause_of([LOST, None, None], answers.absent), RankDied)
    assert answers.found == {0: Answer(LOST, ASKED)}

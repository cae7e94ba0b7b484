"""What torchrun's ranks publish for each other, and whether they make the same calls."""

import threading
import time

import pytest
import torch
from torch import nn
from torch.distributed import HashStore

from pipelab.action import Action, Kind
from pipelab.engine.failures.findings import Absent, State
from pipelab.engine.protocol.commands import Build, Done, Fetch, Options, Run
from pipelab.engine.protocol.device import Place
from pipelab.engine.protocol.failure import Failure, FailureKind
from pipelab.engine.protocol.progress import Begun
from pipelab.engine.torchrun import store as module
from pipelab.engine.torchrun.fingerprint import difference, fingerprint
from pipelab.engine.torchrun.store import Answer, AnswerStore
from pipelab.partition import Rows
from pipelab.partition.tree import flatten_batch

ASKED = ("Run", 7)
FINE = Answer(Done(), ASKED)
LOST = Failure(
    FailureKind.LOST_PEER, "MessageError: closed by peer", "", Action(0, Kind.B, 0), peer=1
)
AT = Begun(9, Action(1, Kind.F, 3))


# ------------------------------------------------------------------------------ fingerprints


def test_other_data_or_another_call_is_an_error():
    assert difference({0: ASKED, 1: ASKED}) is None
    assert "rank 1 has another batch than rank 0" in str(difference({0: ASKED, 1: ("Run", 8)}))
    words = "rank 2 was asked to give its state or gradients when rank 0 was asked to run a batch"
    assert words in str(difference({0: ASKED, 1: ASKED, 2: ("Fetch", 7)}))
    assert "to do Unknown" in str(difference({0: ASKED, 1: ("Unknown", 7)}))


def test_a_machine_with_other_gpus_is_no_equal():
    there, here = (
        fingerprint([Build({}, 1, Options(loss=torch.sum, place=place))])
        for place in (Place("cuda", "nccl"), Place("cpu", "gloo"))
    )
    assert there[0] == here[0] == "Build" and there[1] != here[1]


def run(inputs, targets):
    flat = [None if x is None else flatten_batch(x) for x in (inputs, targets)]
    signature = () if flat[0] is None else flat[0].signature
    return Run(True, *flat, (2, 2), (0.5, 0.5), signature)


def test_the_fingerprint_sees_one_number_of_a_batch_and_of_a_model():
    x = torch.zeros(4, 3)
    y = x.clone()
    y[3, 2] = 1.0
    assert fingerprint([run(x, None), run(None, x)]) == fingerprint([run(x, None), run(None, x)])
    assert fingerprint([run(x, None), run(None, x)]) != fingerprint([run(x, None), run(None, y)])
    assert fingerprint([run({"a": x}, None)]) != fingerprint([run({"a": y}, None)])
    assert fingerprint([run(x, None)]) != fingerprint([run(x.reshape(3, 4), None)])
    for other in ({"a": x, "b": 1}, {"a": x, "b": None}, {"a": Rows(x, dim=1), "b": True}):
        assert fingerprint([run({"a": x, "b": True}, None)]) != fingerprint([run(other, None)])
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


def test_an_answer_that_came_just_before_its_rank_closed_is_not_missed(stores, monkeypatch):
    # a rank that fails answers, sees that all have, and closes: between two reads of another one
    stores[1].publish(Answer(LOST, ASKED))
    stores[1].close("RankError: the cause")
    read, reads = stores[0].answer, []

    def too_early(rank):
        reads.append(rank)
        return None if rank == 1 and reads.count(1) == 1 else read(rank)

    monkeypatch.setattr(stores[0], "answer", too_early)
    stores[0].publish(FINE)
    answers = stores[0].collect(timeout=0.3)
    assert answers.found[1].content == LOST and set(answers.absent) == {2}


def test_a_store_that_is_gone_ends_the_waiting(stores):
    class Gone:
        def __getattr__(self, name):
            raise RuntimeError("Connection reset by peer")

    stores[0].publish(Answer(LOST, ASKED))
    stores[0].store = Gone()
    answers = stores[0].collect(timeout=60.0)
    assert answers.absent == {1: Absent(State.SILENT), 2: Absent(State.SILENT)}
    assert answers.found == {0: Answer(LOST, ASKED)}

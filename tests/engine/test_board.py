"""The board of torchrun's ranks, and the verdict: one cause, the same for all."""

import threading
import time

import pytest
import torch
from torch import nn
from torch.distributed import HashStore

from pipelab.action import Action, Kind
from pipelab.engine.protocol.commands import Build, Done, Failed, Fetch, Options, Run
from pipelab.engine.protocol.device import Place
from pipelab.engine.torchrun import store as module
from pipelab.engine.torchrun.fingerprint import fingerprint
from pipelab.engine.torchrun.store import Board, Life, Note, Round
from pipelab.engine.torchrun.verdict import verdict
from pipelab.errors import RankDied, RankError, RankTimeout
from pipelab.partition.tree import flatten

ASKED = ("Run", 7)
FINE = Note(Done(), ASKED)
BUG = Note(Failed("1F2", "KeyError: 'x'", "", echo=False), ASKED)
ECHO = Note(Failed("0B0", "MessageError: closed by peer", "", echo=True), ASKED)
AT = (9, Action(1, Kind.F, 3))


def cause(notes, missing=None):
    found = Round(dict(enumerate(notes)), missing or {})
    return verdict(found, timeout=30.0)


def test_all_is_well():
    assert cause([FINE, FINE]) is None


def test_a_bug_comes_before_the_complaints_about_it():
    error = cause([ECHO, BUG, ECHO], {3: Life(5, AT, silent=True)})
    assert (error.rank, error.action) == (1, "1F2")
    assert "KeyError" in str(error) and "closed by peer" not in str(error)


@pytest.mark.parametrize(
    ("life", "kind", "words"),
    [
        (None, RankDied, "rank 2 is gone: no sign of life"),
        (Life(5, AT, silent=True), RankDied, "rank 2 is gone, last seen in 1F3"),
        (Life(5, AT), RankTimeout, r"rank 2 gave no answer for 30 s .* last seen in 1F3, but"),
        (Life(5, AT, left="ValueError: no file"), RankError, r"rank 2 has left.*ValueError: no f"),
    ],
)
def test_a_rank_without_a_note(life, kind, words):
    error = cause([ECHO, FINE], {2: life})
    assert type(error) is kind and error.rank == 2
    with pytest.raises(kind, match=words):
        raise error


def test_a_dead_rank_comes_before_one_that_hangs_for_it():
    error = cause([ECHO], {1: Life(5, AT), 2: Life(5, AT, silent=True)})
    assert isinstance(error, RankDied) and error.rank == 2


def test_a_broken_wire_between_ranks_that_all_live():
    error = cause([FINE, ECHO])
    assert error.rank == 1 and "closed by peer" in str(error)


def test_other_data_or_another_call_comes_first():
    other = Note(BUG.answer, ("Run", 8))
    assert "rank 1 has another batch than rank 0" in str(cause([FINE, other]))
    other = Note(Done(), ("Fetch", 7))
    words = "rank 2 was asked to give its state or gradients when rank 0 was asked to run a batch"
    assert words in str(cause([FINE, FINE, other]))


# ------------------------------------------------------------------------------ fingerprints


def test_a_machine_with_other_gpus_is_no_equal():
    there, here = (
        fingerprint([Build({}, 1, Options(loss=torch.sum, place=place))])
        for place in (Place("cuda", "nccl"), Place("cpu", "gloo"))
    )
    assert there[0] == here[0] == "Build" and there[1] != here[1]


def run(inputs, targets):
    return Run(True, flatten(inputs), flatten(targets), (2, 2), (0.5, 0.5), ())


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


# --------------------------------------------------------------------------------- the board


@pytest.fixture
def boards(monkeypatch):
    """Three boards on one store; ``at`` is where each of them is. Time runs ten times as fast."""
    store = HashStore()
    monkeypatch.setattr(module, "_connect", lambda name: store)
    for name, seconds in {"_BEAT": 0.05, "_SILENT": 0.2, "_GRACE": 0.3}.items():
        monkeypatch.setattr(module, name, seconds)
    made = []
    for rank in range(3):
        at = [0, None]
        board = Board(rank, 3, lambda at=at: tuple(at))
        board.at = at
        made.append(board)
        board.open("test")
    yield made
    for board in made:
        board.leave("the test is over")


def test_all_notes_are_read_by_all_and_old_ones_go(boards):
    for number in range(4):
        for board in boards:
            board.pin(Note(number, ASKED))
        for board in boards:
            found = board.read(patience=5.0)
            assert [note.answer for note in found.notes.values()] == [number] * 3
            assert found.missing == {}
    assert not boards[0].store.check(["note 2 0"]) and boards[0].store.check(["note 4 0"])


def test_a_rank_that_goes_on_is_waited_for_beyond_the_deadline(boards):
    def work():
        for _ in range(10):
            time.sleep(0.1)
            boards[2].at[0] += 1
        boards[2].pin(FINE)

    boards[0].pin(FINE)
    boards[1].pin(FINE)
    worker = threading.Thread(target=work)
    worker.start()
    assert boards[0].read(patience=0.5).missing == {}  # the work takes 1 s
    worker.join()


def test_a_rank_that_hangs_and_one_that_is_gone_differ(boards):
    boards[1].at[:] = AT
    boards[2]._quiet.set()  # gives no sign of life any more
    time.sleep(0.1)
    boards[0].pin(ECHO)
    started = time.monotonic()
    found = boards[0].read(patience=60.0)
    assert time.monotonic() - started < 5  # somebody failed: the others have only a moment left
    assert set(found.notes) == {0} and set(found.missing) == {1, 2}
    assert found.missing[1].where == AT and not found.missing[1].silent
    assert found.missing[2].silent


def test_a_rank_that_left_is_not_waited_for(boards):
    boards[0].pin(FINE)
    boards[1].leave("ValueError: no file")
    started = time.monotonic()
    found = boards[0].read(patience=60.0)
    assert time.monotonic() - started < 5
    assert found.missing[1].left == "ValueError: no file"


def test_a_store_that_is_gone_ends_the_waiting(boards, monkeypatch):
    class Gone:
        def __getattr__(self, name):
            raise RuntimeError("Connection reset by peer")

    boards[0].pin(ECHO)
    boards[0].store = Gone()
    found = boards[0].read(patience=60.0)
    assert isinstance(verdict(found, 60.0), RankDied)
    assert found.notes == {0: ECHO}

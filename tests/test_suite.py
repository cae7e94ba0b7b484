"""How the suite runs: what judges time alone, programs beside, the same random data."""

import random
import threading

import pytest
import torch

from tests.quiet import QuietLock


@pytest.fixture
def locks(tmp_path):
    """As three workers have it."""
    locks = [QuietLock(tmp_path) for _ in range(3)]
    yield locks
    for lock in locks:
        lock.close()


def begin(lock, *, alone):
    """Take a lock in a thread; the thread, and an event for when it has it."""
    has = threading.Event()
    thread = threading.Thread(target=lambda: (lock.take(alone=alone), has.set()))
    thread.start()
    return thread, has


def test_others_share_what_a_test_of_time_has_alone(locks):
    first, second, time = locks
    first.take(alone=False)
    second.take(alone=False)
    waiting, has = begin(time, alone=True)
    first.release()
    assert not has.wait(0.1), "the second still has it"
    later, has_again = begin(first, alone=False)
    assert not has_again.wait(0.1), "the entry is locked, or the others could take turns forever"
    second.release()
    assert has.wait(10.0) and time.is_alone and not has_again.wait(0.1)
    time.release()
    assert has_again.wait(10.0) and not first.is_alone
    waiting.join()
    later.join()


@pytest.mark.beside('echo said; touch "$FOLDER/made/file"; exit 3')
def test_a_program_beside_is_judged_when_it_has_ended(beside):
    assert (beside.returncode, beside.output) == (3, "said\n")
    assert [path.name for path in beside.folder.iterdir()] == ["file"]


DRAWN = []
A_DRAWS = 0.6290705624079005


@pytest.mark.parametrize("which", ["a", "b"])
def test_random_data_are_a_tests_own(which):
    """By the name: another test draws something else, the same test the same in every run."""
    DRAWN.append((random.random(), torch.rand(()).item()))
    assert len(DRAWN) == len(set(DRAWN))
    assert (DRAWN[-1][0] == A_DRAWS) is (which == "a")

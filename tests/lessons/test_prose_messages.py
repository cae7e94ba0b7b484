"""What lessons 9 and 10 state: on paper by the simulator, recorded by their stored run."""

import fcntl
import os
import re
import subprocess
import sys

import pytest

from pipelab.lessons.hidden import hidden_share
from pipelab.schedules import Schedule, gpipe, one_f_one_b
from pipelab.schedules.communication import lower
from pipelab.simulator import Cost, simulate
from pipelab.widgets.settings import Settings
from pipelab.widgets.settings import part as share_of
from tests.lessons.test_prose import said
from tests.lessons.wrong_09 import on_all, right

SIZES = [(p, m) for p in (1, 2, 3, 4, 6, 8) for m in (1, 2, 3, 5, 8, 13, 32)]


def eager(p, m):
    """Exercise 09.1's model solution."""
    return Schedule.from_tokens(on_all(right)(p, m))


def paper(schedule, cost, overlap=True):
    return simulate(schedule, cost, overlap).duration * 1000


# ------------------------------------------------------------------------------------- lesson 9


def test_09_half_is_hidden_and_little_is_saved():
    quarter, free = Cost(0.016, 0.016, 0.016, latency=0.004), Cost(0.016, 0.016, 0.016)
    schedule = one_f_one_b(4, 8)
    stated = paper(schedule, free), paper(schedule, quarter, False), paper(schedule, quarter)
    assert stated == pytest.approx((528, 604, 592))
    assert paper(gpipe(4, 8), quarter) == pytest.approx(552)
    for p, m in SIZES:
        if p > 1:
            assert hidden_share(simulate(one_f_one_b(p, m), Cost(latency=0.25))) <= 0.5
    assert hidden_share(simulate(schedule, quarter)) == pytest.approx(0.5)
    assert hidden_share(simulate(eager(4, 8), quarter)) == pytest.approx(0.75)


@pytest.mark.parametrize("p", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("latency", [0.1, 0.25, 1.0])
def test_09_each_microbatch_waits_for_its_share_of_the_way(p, latency):
    """(p (F + B) + 2 (p - 1) L)/p, measured over p microbatches of a long step."""
    long, longer = (simulate(one_f_one_b(p, m), Cost(latency=latency)) for m in (10 * p, 11 * p))
    found = (longer.duration - long.duration) / p
    assert found == pytest.approx((p * 3 + 2 * (p - 1) * latency) / p)
    if (p, latency) == (4, 0.25):
        assert found * 16 == pytest.approx(54)


@pytest.mark.parametrize(("forward", "backward"), [(1, 2), (1, 1), (2, 3), (2, 1)])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_09_twice_as_many_hide_all_but_the_staircases(forward, backward, share):
    """Up to a message of (F + B)/2, whatever p and m."""
    both = forward + backward
    cost = Cost(forward, backward / 2, backward / 2, latency=share * both / 2)
    for p, m in SIZES:
        formula = (m + p - 1) * both + 2 * (p - 1) * cost.latency
        assert simulate(eager(p, m), cost).duration == pytest.approx(formula)
        assert simulate(gpipe(p, m), cost).duration == pytest.approx(formula)


def test_09_and_with_slower_messages_it_does_not():
    cost = Cost(latency=1.6)  # more than (F + B)/2
    assert simulate(eager(4, 16), cost).duration > simulate(gpipe(4, 16), cost).duration


def test_09_two_links():
    def link(m, **message):
        part = 0.128 / m
        return paper(one_f_one_b(4, m), Cost(part, part, part, **message))

    far = [link(m, latency=0.008) for m in (8, 32)]
    narrow = [link(m, bandwidth=1e9, message_bytes=64e6 / m) for m in (8, 32)]
    assert far == pytest.approx([656, 836]) and narrow == pytest.approx([656, 524])


def test_09_answers_beside_the_lab():
    whole = Cost(0.16, 0.16, 0.16, latency=0.02)

    def milliseconds(p, m, schedule="1f1b", overlap=True):
        settings = Settings(p, m, schedule, share_of(whole, p * m), overlap=overlap)
        return settings.prediction.duration * 1000

    assert [milliseconds(p, 8) for p in (1, 2, 4, 8)] == pytest.approx(
        [480, 430, 485, 633], abs=0.6
    )
    assert [milliseconds(4, m) for m in (4, 8, 16)] == pytest.approx([410, 485, 703], abs=0.6)
    assert milliseconds(4, 8, "gpipe") == pytest.approx(285)
    assert milliseconds(4, 8, "gpipe", overlap=False) == pytest.approx(565)
    assert milliseconds(4, 8, "1f1b", overlap=False) == pytest.approx(545)


def test_09_recorded():
    """What answers a prediction is not stored: there the teacher's cells prove it, in nbval."""
    assert "takes 54.0 ms" in said("09", "why")
    assert "1f1b: trains" in said("09", "budget")
    assert "gpipe: rank 0 ran out of" in said("09", "budget")
    assert re.fullmatch(r"here: a forward \d+ µs, a message \d+ µs\s*", said("09", "own"))


# ------------------------------------------------------------------------------------ lesson 10


def test_10_a_strict_send_hangs_however_small_its_message():
    ring = "They wait for each other in a ring: rank 0 -> rank 1 -> rank 0"
    assert ring in said("10", "strict")
    from pipelab.engine.transport.shared_memory import RING_BYTES

    assert RING_BYTES == 32 * 2**20
    if hasattr(fcntl, "F_GETPIPE_SZ"):
        ends = os.pipe()
        assert fcntl.fcntl(ends[0], fcntl.F_GETPIPE_SZ) <= 64 * 2**10
        for end in ends:
            os.close(end)


def test_10_the_second_program_hangs_whatever_a_send_does():
    from pipelab.errors import DeadlockError

    rows = ["0F0 0F1 0B0 0B1", "1F0 1F1 1B0 1B1", "2F0 2B0 2F1 2B1", "3F1 3F0 3B0 3B1"]
    with pytest.raises(DeadlockError) as caught:
        lower(Schedule.from_tokens(row.split() for row in rows), rendezvous=False)
    assert caught.value.cycle == (2, 3) and len(caught.value.blocked) == 4


def test_10_each_error_names_rank_2():
    ends = re.findall(r"-> (\w+), rank (\d), in (\w+)", said("10", "zoo-run"))
    assert ends == [("RankError", "2", "2F0"), ("RankOutOfMemory", "2", "2F1"),
                    ("RankTimeout", "2", "2F0")]  # fmt: skip
    silent = said("10", "zoo-run")
    assert silent.count("waits for a message") == 3 and "rank 2 is in 2F0" in silent
    assert "/" not in said("10", "zoo-run"), "no path of the machine that stored it"


GLOO = """
import sys, torch, torch.distributed as dist
from datetime import timedelta
rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2,
                        timeout=timedelta(seconds=3))
try:
    dist.send(torch.ones(1), 1 - rank)
    print("sent")
except RuntimeError as error:
    print("hung")
"""


@pytest.mark.slow
def test_10_over_gloo_a_send_waits_for_its_receive_however_small(tmp_path):
    """The table of section 5: both send 4 bytes first."""
    command = [sys.executable, "-c", GLOO]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True)
        for rank in range(2)
    ]  # fmt: skip
    assert [rank.communicate(timeout=120)[0].strip() for rank in ranks] == ["hung", "hung"]

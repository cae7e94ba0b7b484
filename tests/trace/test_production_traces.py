"""Two production jobs of ByteDance (Lin et al. 2025, arXiv 2505.05713): known figures come out.

The files are not part of the project. Where they lie in ``shared/data`` beside a checkout, they are
read; elsewhere these tests are skipped.
"""

from pathlib import Path

import pytest

from pipelab.analysis import diagnose
from pipelab.trace import Trace

FOLDERS = [folder / "shared" / "data" for folder in Path(__file__).resolve().parents]


def job(name):
    path = next((f / name for f in FOLDERS if (f / name).is_file()), None)
    if path is None:
        pytest.skip(f"{name} is not there")
    return Trace.read(path)


@pytest.fixture(scope="module")
def st():
    return diagnose(job("timeline-ST.json.gz"))


@pytest.fixture(scope="module")
def ar():
    return diagnose(job("timeline-AR.json.gz"))


def durations(found):
    return {what.name: what.duration for what in found.what_ifs}


def test_a_last_stage_with_more_work(st):
    assert (st.schedule, st.ranks, st.microbatches, st.stages_per_rank) == ("1f1b", 4, 4, 1)
    assert (st.num_replicas, st.num_steps) == (2, 64)
    assert st.bubble_fraction == pytest.approx(0.513, abs=0.003)
    assert st.formula[1] == pytest.approx(0.429, abs=0.001)
    assert st.duration == pytest.approx(2.02, abs=0.01)
    assert (st.slowest.rank.number, st.slowest.stage.number) == (3, 3)
    kind = st.slowest.kind
    assert (kind.kind, kind.number) == ("F", 3)
    assert kind.seconds == pytest.approx(0.140, abs=0.002)
    assert kind.others == pytest.approx(0.068, abs=0.001)
    assert st.path[0].what == "B of stage 3" and st.path[1].what == "F of stage 3"
    assert next(iter(st.idle)) == "waiting"


def test_what_would_help_it(st):
    found = durations(st)
    assert found["stage"] == pytest.approx(1.49, abs=0.02)
    assert found["even"] == pytest.approx(1.72, abs=0.02)
    assert found["free_messages"] == pytest.approx(st.simulated, rel=0.01)
    assert st.fit.explained == pytest.approx(1.0, abs=0.005) and st.fit.spread < 0.005
    assert 0.01 < st.fit.predicted < 0.06


def test_they_agree_with_what_their_publishers_computed(st, ar):
    """S, M_W and M_S of their program, which simulates whole steps, the optimizer's included."""
    assert st.slowdown.overall == pytest.approx(2.1727 / 1.8433, rel=0.01)
    assert st.slowdown.last_rank == pytest.approx(1.219, rel=0.12)
    assert ar.slowdown.overall == pytest.approx(46.34 / 23.48, rel=0.01)
    assert ar.slowdown.slowest_ranks == pytest.approx(1.002, rel=0.02)
    assert ar.slowdown.ranks == ((0, 0),)


def test_one_slow_rank_of_one_replica(ar):
    assert (ar.schedule, ar.ranks, ar.microbatches) == ("1f1b", 4, 32)
    assert (ar.num_replicas, ar.num_steps) == (4, 176)
    assert ar.bubble_fraction == pytest.approx(0.114, abs=0.002)
    assert ar.formula[1] == pytest.approx(0.086, abs=0.001)
    rank = ar.slowest.rank
    assert (rank.replica, rank.number) == (0, 0) and 2.2 < rank.ratio < 2.5
    slow, *others = ar.replicas
    assert slow.duration == pytest.approx(45.9, rel=0.01)
    assert slow.bubble_fraction == pytest.approx(0.43, abs=0.005)
    assert all(row.duration == pytest.approx(22.0, rel=0.01) for row in others)
    found = durations(ar)
    assert found["rank"] == pytest.approx(22.0, rel=0.02)
    assert found["rank_as_elsewhere"] == pytest.approx(22.0, rel=0.02)
    assert ar.fit.explained == pytest.approx(1.0, abs=0.005)
    assert "rank 0 of replica 0" in str(ar) and "2.36 x" in str(ar)

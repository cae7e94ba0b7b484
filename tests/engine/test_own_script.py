"""A script's own schedule under torchrun, recorded by ``with recording(schedule):``."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from pipelab.action import COMPUTE, MESSAGES, Kind
from pipelab.analysis.order import schedule_of
from pipelab.engine import Recorded, recording
from pipelab.errors import TraceError
from pipelab.schedules.communication import lower
from pipelab.trace import Trace, explain_idle

SCRIPT = Path(__file__).with_name("own_script.py")
EXPECTED = {
    "ScheduleGPipe": "gpipe",
    "Schedule1F1B": "1f1b",
    "ScheduleInterleaved1F1B": "interleaved",
    "ScheduleZBVZeroBubble": "zero_bubble_v",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What one launch of four ranks leaves for all four schedules."""
    folder = tmp_path_factory.mktemp("own-script")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[2])}
    place = ["--standalone", "--nproc-per-node", "4"]
    command = [sys.executable, "-m", "torch.distributed.run", *place, SCRIPT, folder, *EXPECTED]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", EXPECTED)
def test_all_ranks_actions_are_in_the_trace(name, folder):
    trace = Trace.load(folder / f"{name}.json")
    schedule = schedule_of(trace)
    assert schedule.name == trace.setting.schedule == EXPECTED[name]
    assert (trace.num_ranks, trace.setting.microbatches) == (4, 8)
    assert trace.source_line.startswith(f"recorded · {EXPECTED[name]} · 4 ranks · 8 microbatches")
    lowered = lower(schedule)
    sent = {a for row in lowered.ranks for a in row if a.kind in MESSAGES}
    found = {(e.stage, e.kind, e.microbatch) for e in trace.events if e.kind in MESSAGES}
    assert found == sent
    waits = [e for e in trace.events if e.kind is Kind.WAIT]
    assert len(waits) == len(sent) / 2 and all(e.peer is not None for e in waits)


@pytest.mark.parametrize("name", EXPECTED)
def test_ranks_share_a_clock_and_nothing_overlaps(name, folder):
    trace = Trace.load(folder / f"{name}.json")
    made = {(e.stage, e.kind, e.microbatch): e for e in trace.events if e.kind in COMPUTE}
    for (stage, kind, microbatch), e in made.items():
        if kind is Kind.F and stage:
            assert made[stage - 1, Kind.F, microbatch].end <= e.start
    for rank in range(4):
        row = [e for e in trace.events if e.rank == rank and e.kind in COMPUTE]
        assert all(a.end <= b.start for a, b in pairwise(row))
    assert sum(idle.seconds for idle in explain_idle(trace)) == pytest.approx(
        trace.bubble_fraction * 4 * trace.duration
    )


@pytest.mark.parametrize("name", EXPECTED)
def test_afterwards_all_is_as_it_was(name, folder):
    assert json.loads((folder / f"{name}.txt").read_text()) == [True, 2]


def test_what_is_no_schedule_is_refused():
    with pytest.raises(TraceError, match="takes a schedule of torch"), recording("1f1b"):
        pass
    with pytest.raises(TraceError, match="no step was recorded"):
        _ = Recorded().trace

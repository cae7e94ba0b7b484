"""The fault matrix: what goes wrong x on which rank x in which phase x under which schedule.

Generated, not hand-picked. Each cell must end in time in one error that names the rank, the stage,
the action and the microbatch, with the learner's own line first; nothing may be left behind, and
the next pipeline must run. The ordinary suite runs a covering selection: each two values of two
columns meet at least once. ``pytest -m slow tests/faults`` runs all and prints the counts.
"""

import itertools
import time
from collections import Counter
from functools import partial

import pytest
import torch

from pipelab.engine import Pipeline
from pipelab.errors import LaunchError, RankDied, RankError, RankOutOfMemory, RankTimeout
from tests.faults import trap
from tests.faults.leftovers import Held, nothing_more
from tests.faults.trap import FAULTS, NUM_RANKS, PHASES, SCHEDULES, Bang, Loss, Optimizer

TIMEOUT = 0.5
ALL = list(itertools.product(FAULTS, range(NUM_RANKS), PHASES, SCHEDULES))
ERRORS = {
    "kill": RankDied,
    "_exit 0": RankDied,
    "_exit 3": RankDied,
    "stop": RankTimeout,
    "loop": RankTimeout,
    "memory": RankOutOfMemory,
}
WORDS = {
    "kill": "killed by signal 9",
    "_exit 0": "exit code 0",
    "_exit 3": "exit code 3",
    "stop": "its process is stopped",
    "loop": "Look for an endless loop on rank",
    "memory": "Cut the model into more stages",
    "exit 0": "SystemExit: 0",
    "exit 3": "SystemExit: 3",
    "wrong dtype": "torch.float64, but the last one from 2 rows was (2, 8) torch.float32",
}


def covering(cells):
    """A few cells in which each pair of values of any two columns occurs, if it does in any."""

    def pairs(cell):
        return set(itertools.combinations(enumerate(cell), 2))

    left = set().union(*map(pairs, cells))
    chosen = []
    while left:
        best = max(cells, key=lambda cell: len(pairs(cell) & left))
        chosen.append(best)
        left -= pairs(best)
    return chosen


def applies(cell):
    """Whether there is such an action: GPipe has no steady phase, a cooldown no forward ..."""
    fault, rank, phase, name = cell
    if fault in trap.ONCE and fault != "loss":
        return phase == "warmup"  # these go off once, in no phase
    return trap.spot(fault, SCHEDULES[name], rank, phase, 1) is not None


CELLS = [cell for cell in ALL if applies(cell)]


def step_of(cell):
    """Half of the cells fail in their first step, where the forms of messages are not known."""
    return sum(map(ord, "".join(map(str, cell)))) % 2


@pytest.fixture(scope="module")
def slowness():
    """How much slower than a quiet machine this one is right now; at least 1."""
    run_healthy("1f1b")  # the fork server's start is not meant
    started = time.monotonic()
    run_healthy("1f1b")
    return max(1.0, (time.monotonic() - started) / 0.4)


def open_pipeline(name, where=None, moody=None, **options):
    schedule = SCHEDULES[name]
    fault = where.fault if where else None
    options.setdefault("optimizer", partial(torch.optim.SGD, lr=0.01))
    return Pipeline(
        trap.model(schedule.num_stages, where, moody),
        schedule,
        loss=Loss(where if fault == "loss" else None),
        memory_budget=100_000,
        timeout=TIMEOUT if fault in ("stop", "loop") else 30.0,
        **options,
    )


def run_healthy(name):
    with open_pipeline(name) as pipeline:
        assert pipeline.step(*trap.batch()).loss > 0


def fail(cell):
    """Let the cell's fault go off: the error, the seconds that it took, and the spot."""
    fault, rank, phase, name = cell
    schedule, step = SCHEDULES[name], step_of(cell)
    stage = schedule.stages_of(rank)[-1]
    where = moody = None
    options = {}
    if fault in ("construction", "unpicklable", "unpickling"):
        moody = stage, fault
    elif fault == "optimizer":
        options["optimizer"] = partial(Optimizer, fails_at=step)
    elif fault != "iterator":
        where = trap.spot(fault, schedule, rank, phase, step)
    started = time.monotonic()
    try:
        with open_pipeline(name, where, moody, **options) as pipeline:
            for _ in range(where.step if where else step):
                pipeline.step(*trap.batch())
            started = time.monotonic()
            result = pipeline.step(*trap.batch())
            assert pipeline.step(*trap.batch()).trace.events  # it continues
            return result, 0.0, where
    except BaseException as error:
        return error, time.monotonic() - started, where


def judge(cell, slowness):
    """Raise AssertionError unless the cell ends as it must."""
    fault, rank, _phase, name = cell
    error, seconds, where = fail(cell)
    limit = (TIMEOUT + 2.0) if fault in ("stop", "loop") else 5.0
    assert seconds < limit * slowness, f"{seconds:.1f} s, at most {limit:g} s x {slowness:.1f}"
    is_last = where is not None and where.stage == SCHEDULES[name].num_stages - 1
    if fault == "nan" or (fault == "wrong dtype" and is_last):  # reported, no error
        if fault == "nan" and where.kind == "F":
            assert error.loss != error.loss
        return
    assert isinstance(error, Exception), repr(error)
    text = str(error)
    assert not any(noise in text.lower() for noise in ("reset", "closed by peer", "gloo"))
    if fault in ("construction", "unpicklable"):
        assert type(error) is LaunchError
        stage = SCHEDULES[name].stages_of(rank)[-1]
        assert f".2 of stage {stage}, a Moody, cannot be sent to rank {rank}" in text
        return
    assert type(error) is ERRORS.get(fault, RankError), repr(error)
    if fault == "wrong shape" and not is_last:  # found where it is used
        (rank,) = (r for r in range(NUM_RANKS) if where.stage + 1 in SCHEDULES[name].stages_of(r))
        assert "(2, 7) torch.float32, but the last one from 2 rows was (2, 8) torch.float32" in text
        assert f"look at the output of stage {where.stage}" in text
    assert error.rank == rank or fault == "optimizer", text
    assert text.startswith(f"rank {error.rank} ") or fault in ("stop", "loop"), text
    assert WORDS.get(fault, "") in text
    assert "All ranks were stopped" in text
    judge_place(cell, where, error, is_last)


def judge_place(cell, where, error, is_last):
    """The error names the action, and what a learner wrote comes first."""
    fault, _rank, _phase, name = cell
    text = str(error)
    if fault in ("forward", "backward", "loss", "optimizer", "unpickling"):
        first, second = text.splitlines()[:2]
        assert "Bang" in first
        assert second.startswith("  at File") and "trap.py" in second and ": raise Bang" in second
        assert "raise Bang" in error.details
    if fault == "unpickling":
        assert error.action is None
        assert f"while it built stage{'s' * (name == 'interleaved')} " in text
    elif fault == "optimizer":
        assert error.action == f"{SCHEDULES[name].stages_of(error.rank)[0]}STEP"
    else:
        tokens, stage = trap.tokens_of(where), where.stage
        if fault == "wrong dtype" and not is_last:  # found when it leaves
            tokens = {f"{stage}SEND_F{where.microbatch}"}
        if fault == "wrong shape" and not is_last:
            stage += 1
            tokens = {f"{stage}F{where.microbatch}"}
        assert error.action in tokens, text
        assert (error.stage, error.microbatch) == (stage, where.microbatch)
        assert f"{error.action} (stage {stage}, " in text
        assert f", microbatch {where.microbatch})" in text


@pytest.mark.parametrize(
    "cell",
    [c for c in covering([c for c in CELLS if c[0] != "iterator"])],
    ids=lambda cell: "-".join(map(str, cell)).replace(" ", "_"),
)
def test_covering_selection(cell, slowness):
    before = Held.now()
    judge(cell, slowness)
    left = nothing_more(before, 2.0 * slowness)
    assert left is None, left


def test_after_any_fault_the_next_run_works():
    before = Held.now()
    for name in SCHEDULES:
        run_healthy(name)
    assert nothing_more(before) is None


@pytest.mark.parametrize("name", SCHEDULES)
def test_what_a_data_iterator_raises_comes_as_it_is_and_harms_nothing(name):
    judge_iterator(name)


def judge_iterator(name):
    def batches():
        yield trap.batch()
        yield trap.batch()
        raise Bang("no more data")

    with open_pipeline(name) as pipeline:
        results = []
        with pytest.raises(Bang, match="no more data"):
            results.extend(result.loss for result in pipeline.train(batches()))
        assert pipeline.step(*trap.batch()).loss > 0


def test_the_matrix_has_what_it_says():
    seen = Counter(cell[0] for cell in CELLS)
    assert set(seen) == set(FAULTS)
    no_steady_phase_under_gpipe = NUM_RANKS
    assert seen["kill"] == NUM_RANKS * len(PHASES) * len(SCHEDULES) - no_steady_phase_under_gpipe
    pairs = {pair for c in CELLS for pair in itertools.combinations(enumerate(c), 2)}
    chosen = covering(CELLS)
    assert pairs == {p for c in chosen for p in itertools.combinations(enumerate(c), 2)}
    assert len(chosen) < len(CELLS) / 4


@pytest.mark.slow
def test_the_whole_matrix(slowness, capsys):
    passed, failed = Counter(), {}
    for cell in CELLS:
        before = Held.now()
        try:
            if cell[0] == "iterator":  # in the parent: it has no rank
                judge_iterator(cell[3])
            else:
                judge(cell, slowness)
            left = nothing_more(before, 2.0 * slowness)
            assert left is None, left
            run_healthy(cell[3])
            passed[cell[0]] += 1
        except AssertionError as error:
            failed[cell] = str(error)
    with capsys.disabled():
        print(f"\n{'fault':14} {'cells':>6} {'as wanted':>10}")
        for fault in FAULTS:
            cells = sum(cell[0] == fault for cell in CELLS)
            print(f"{fault:14} {cells:6} {passed[fault]:10}")
    assert not failed, "\n".join(f"{cell}: {text[:600]}" for cell, text in failed.items())

"""Files of jobs whose causes are known, read and diagnosed: what is found is what was put in.

The jobs come from a generator with its own clock (tests/trace/production.py), so a what-if is
compared with the same job run once more, without its cause.
"""

import random
from statistics import mean, median

import pytest

from pipelab.analysis import diagnose
from pipelab.analysis.screen import answer
from pipelab.schedules import interleaved, zero_bubble_h1, zero_bubble_v
from pipelab.trace import Trace
from tests.trace.foreign import write
from tests.trace.production import Job, gpipe_order, one_f_one_b_order, order_of, rows_of


def opened(tmp_path, job, shuffle=False, **form):
    rows = rows_of(job, **form)
    if shuffle:
        random.Random(0).shuffle(rows)
    return diagnose(Trace.read(write(tmp_path / "timeline.json", rows)))


def what(found):
    return {change.name: change.duration for change in found.what_ifs}


def without(found, job, **changes):
    """Seconds of the shown step of the job with other properties."""
    shown = found.trace.setting
    return job.changed(**changes).duration(shown.step, shown.replica)


def assert_explained(found, job):
    numbers = job.numbers()
    assert (found.ranks, found.microbatches, found.stages_per_rank) == (job.p, job.m, job.v)
    assert (found.num_replicas, found.num_steps) == (job.replicas, len(numbers))
    assert found.duration == pytest.approx(median(job.duration(*at) for at in numbers), rel=1e-6)
    assert found.bubble_fraction == pytest.approx(median(job.bubble(*at) for at in numbers))
    assert found.fit.explained == pytest.approx(1.0, abs=0.005)
    assert found.simulated == pytest.approx(without(found, job), rel=0.005)


JOBS = {
    "gpipe": Job(gpipe_order(3, 5), jitter=0.05),
    "1f1b": Job(one_f_one_b_order(8, 12), replicas=2, jitter=0.05),
    "interleaved": Job(one_f_one_b_order(4, 8, 2), v=2, replicas=2, jitter=0.05),
    "interleaved-3": Job(one_f_one_b_order(2, 6, 3), v=3, latency=1e-3),
    "zero_bubble_h1": Job(order_of(zero_bubble_h1(4, 6)), jitter=0.02),
    "zero_bubble_v": Job(order_of(zero_bubble_v(3, 6)), v=2, is_v=True, jitter=0.02),
}
FORMS = {
    "plain": {},
    "tensor-parallel": {"tensor": 2, "first_rank": 64},
    "numbered-from-1": {"first_microbatch": 1, "shuffle": True},
    "no-numbers": {"first_microbatch": None, "no_ops": True},
    "no-names": {"named": False, "first_rank": 24},
    "no-messages": {"messages": False},
    "vescale": {"vescale": True},
}


# veScale's own files do not say which chunk an action is of
PAIRS = [(name, form) for name in JOBS for form in FORMS if form != "vescale" or JOBS[name].v == 1]


@pytest.mark.parametrize(("name", "form"), PAIRS)
def test_schedules_are_recognised_and_explained_in_every_form(name, form, tmp_path):
    job = JOBS[name]
    found = opened(tmp_path, job, **FORMS[form])
    assert found.schedule == name.removesuffix("-3")
    assert_explained(found, job)
    assert "messages left out" not in str(found)


def is_event(row):
    return row["ph"] == "X"


def lacking(*names):
    return lambda row: {**row, "args": {k: v for k, v in row["args"].items() if k not in names}}


def in_halves(row):
    end = {"name": row["name"], "ph": "E", "pid": row["pid"], "tid": row["tid"],
           "ts": row["ts"] + row["dur"]}  # fmt: skip
    begin = {key: value for key, value in row.items() if key != "dur"}
    return [{**begin, "ph": "B"}, end]


def as_floats(row):
    args = {name: float(value) for name, value in row["args"].items()}
    return {**row, "args": args}


# How another exporter may write the same events.
WRITTEN = {
    "no steps": lacking("step"),
    "no steps, no microbatches": lacking("step", "mb_id"),
    "no chunks": lacking("model_chunk"),
    "no steps, no chunks": lacking("step", "model_chunk"),
    "floats, as a table with gaps has": as_floats,
    "names with underscores": lambda row: {**row, "name": row["name"].replace("-", "_")},
    "names in words": lambda row: {**row, "name": row["name"].replace("-", " ").title()},
    "halves": in_halves,
    "seconds since 1970": lambda row: {**row, "ts": row["ts"] + 1.7e15},
    "whole microseconds": lambda row: {**row, "ts": round(row["ts"]), "dur": round(row["dur"])},
    "texts": lambda row: {**row, "ts": str(row["ts"]), "dur": str(row["dur"])},
}


@pytest.mark.parametrize("name", ["1f1b", "interleaved"])
@pytest.mark.parametrize("written", WRITTEN)
def test_what_a_file_does_not_number_is_numbered_by_order(name, written, tmp_path):
    job = JOBS[name]
    rows = []
    for row in rows_of(job):
        new = WRITTEN[written](row) if is_event(row) else row
        rows += new if isinstance(new, list) else [new]
    traces = Trace.read(write(tmp_path / "timeline.json", rows))
    found = diagnose(traces)
    assert found.schedule == name and (found.ranks, found.microbatches) == (job.p, job.m)
    assert len(traces) == job.steps * job.replicas
    assert found.duration == pytest.approx(
        median(job.duration(*at) for at in job.numbers()), rel=1e-4
    )
    assert "there twice" not in str(found)


def test_a_step_of_forwards_alone_is_no_training_step(tmp_path):
    job = JOBS["1f1b"]
    rows = [
        row
        for row in rows_of(job)
        if row["name"] != "backward-compute" or row["args"]["step"] != job.first_step
    ]
    traces = Trace.read(write(tmp_path / "timeline.json", rows))
    assert {trace.setting.step for trace in traces} == {job.first_step + 1, job.first_step + 2}
    rows = [row for row in rows if row["name"] != "backward-compute"]
    assert len(Trace.read(write(tmp_path / "timeline.json", rows))) == len(job.numbers())


def test_ranks_that_cannot_be_kept_apart_are_said_not_to_explain_the_step(tmp_path):
    job = JOBS["1f1b"]  # two replicas under one number, and no names
    rows = [{**row, "pid": 0} for row in rows_of(job, named=False)]
    found = diagnose(Trace.read(write(tmp_path / "timeline.json", rows)))
    assert "does not explain the recorded step" in " ".join(str(found).split())


def test_a_formula_that_names_v_stands_beside_the_bubble(tmp_path):
    found = opened(tmp_path, JOBS["interleaved"])
    assert found.formula == ("(p−1)/(vm+p−1)", pytest.approx(3 / 19))
    assert found.schedule == interleaved(4, 8, 2).name


def test_a_slow_rank_of_one_replica(tmp_path):
    order = one_f_one_b_order(4, 8, 2)
    job = Job(order, v=2, replicas=3, slow={(1, 2): 1.6}, jitter=0.02)
    found = opened(tmp_path, job, no_ops=True)
    assert_explained(found, job)
    assert found.slowest.rank[:2] == (2, 1)
    assert found.slowest.rank.ratio == pytest.approx(1.6, abs=0.03)
    healed = without(found, job, slow={})
    assert what(found)["rank"] == pytest.approx(healed, rel=0.02)
    assert what(found)["rank_as_elsewhere"] == pytest.approx(healed, rel=0.02)
    assert "with rank 2 like rank 2 of the other replicas, a step of replica 1" in answer(found)
    assert "in replica 1, which takes longest" in answer(found)


def test_a_stage_with_more_work_in_all_replicas(tmp_path):
    job = Job(one_f_one_b_order(4, 8), replicas=2, forward=[0.01] * 3 + [0.018], jitter=0.02)
    found = opened(tmp_path, job)
    assert (found.slowest.stage.number, found.slowest.stage.ratio) == (3, pytest.approx(1.8, 0.02))
    even = without(found, job, forward=[0.01] * 4)
    assert what(found)["stage"] == pytest.approx(even, rel=0.02)
    spread = without(found, job, forward=[0.012] * 4)
    assert what(found)["even"] == pytest.approx(spread, rel=0.02)
    assert "with stage 3 like the other stages" in answer(found)


def test_a_slow_replica(tmp_path):
    slow = {(2, rank): 1.3 for rank in range(4)}
    job = Job(one_f_one_b_order(4, 8), replicas=4, slow=slow)
    found = opened(tmp_path, job)
    assert found.trace.setting.replica == 2
    assert found.slowest_replica == pytest.approx(1.3 * found.duration, rel=0.01)
    healed = without(found, job, slow={})
    assert what(found)["replica_as_elsewhere"] == pytest.approx(healed, rel=0.005)
    assert "with all of replica 2 like the other replicas" in answer(found)


@pytest.mark.parametrize("v", [1, 2])
def test_sequences_of_unequal_lengths(v, tmp_path):
    def lengths(step, replica):
        chance = random.Random(f"{step} {replica}")
        return [chance.uniform(0.4, 1.8) for _ in range(8)]

    order = one_f_one_b_order(4, 8, v)
    job = Job(order, v=v, replicas=2, steps=4, lengths=lengths, jitter=0.02)
    found = opened(tmp_path, job)
    assert_explained(found, job)
    assert found.longest_microbatch > 1.3
    alike = without(found, job, alike=True)
    assert what(found)["equal_microbatches"] == pytest.approx(alike, rel=0.01)
    assert "with microbatches of equal length in all" in answer(found)  # the replicas' sums differ
    alone = diagnose([found.trace])
    assert "with microbatches that all take the same time" in answer(alone)


def heavy_tailed(m):
    def lengths(step, replica):
        chance = random.Random(f"{step} {replica}")
        return [0.4 + min(3.0, 0.4 * chance.paretovariate(2.2)) for _ in range(m)]

    return lengths


def of_the_last_replica(job):
    """Seconds of a step of the replica that ends last; the mean of the steps."""
    steps = {step for step, _ in job.numbers()}
    return mean(max(job.duration(step, d) for d in range(job.replicas)) for step in steps)


@pytest.mark.parametrize(("p", "m", "v", "last"), [(4, 8, 1, 1.5), (4, 4, 1, 1.0), (3, 6, 2, 1.2)])
def test_sequences_that_differ_from_replica_to_replica(p, m, v, last, tmp_path):
    lengths = heavy_tailed(m)
    forward = [0.02] * (p * v - 1) + [0.02 * last]
    job = Job(one_f_one_b_order(p, m, v), v=v, replicas=6, steps=5, forward=forward,
              lengths=lengths, jitter=0.02)  # fmt: skip
    found = opened(tmp_path, job)
    typical = mean(x for at in job.numbers() for x in lengths(*at))
    equal = job.changed(lengths=lambda step, replica: [typical] * m)
    slow = found.slowdown
    assert slow.seconds == pytest.approx(of_the_last_replica(job), rel=0.005)
    assert slow.equal_lengths == pytest.approx(of_the_last_replica(equal), rel=0.02)
    ideal = of_the_last_replica(equal.changed(forward=[mean(forward)] * p * v))
    assert slow.overall == pytest.approx(slow.seconds / ideal, rel=0.02)
    assert "all replicas wait for the one that has most to do in a step" in answer(found).lower()


def test_the_figures_of_a_paper_on_stragglers(tmp_path):
    order = one_f_one_b_order(4, 8)
    worker = Job(order, replicas=3, slow={(1, 2): 1.6})
    slow = opened(tmp_path, worker).slowdown
    assert slow.ranks == ((1, 2),)
    typical, whole = (11 + 1.6) / 12, of_the_last_replica(worker)
    ideal = of_the_last_replica(worker.changed(slow={}, forward=[0.01 * typical] * 4))
    cured = of_the_last_replica(worker.changed(slow={(1, 2): typical}))
    assert slow.overall == pytest.approx(whole / ideal, rel=0.005)
    assert slow.slowest_ranks == pytest.approx((whole - cured) / (whole - ideal), abs=0.01)
    assert abs(slow.last_rank) < 0.05
    found = opened(tmp_path, Job(order, replicas=3, forward=[0.01] * 3 + [0.018]))
    assert found.slowdown.last_rank > 1, "the others are faster than the mean"
    assert found.slowdown.slowest_ranks < 0.05
    assert found.data()["slowdown"]["last_rank"] == found.slowdown.last_rank
    text = " ".join(str(found).split())
    assert "M_S = " in text and "arXiv 2505.05713" in text
    even = opened(tmp_path, Job(order, replicas=2))
    assert even.slowdown.overall == pytest.approx(1, abs=0.005)
    assert even.slowdown.slowest_ranks is None and "M_W" not in str(even)


def test_pauses_between_actions_and_slow_messages(tmp_path):
    job = Job(one_f_one_b_order(4, 8), gap=1.5e-3, latency=4e-3, jitter=0.02)
    found = opened(tmp_path, job)
    assert_explained(found, job)
    free = without(found, job, latency=0.0)
    # an action that waited for its message shows no pause: what it then had is not in the record
    assert what(found)["free_messages"] == pytest.approx(free, rel=0.03)
    assert what(found)["no_pauses"] == pytest.approx(without(found, job, gap=0.0), rel=0.02)
    plain = {change.name: change.bubble_fraction for change in found.what_ifs}
    assert plain["free_messages"] == pytest.approx(
        job.changed(latency=0.0).bubble(found.trace.setting.step, 0), abs=0.02
    )


def test_nothing_is_named_where_nothing_is_wrong(tmp_path):
    found = opened(tmp_path, Job(one_f_one_b_order(4, 8), jitter=0.01))
    assert "No rank, stage, microbatch, message or pause costs much" in answer(found)
    assert "none stands out" in str(found)


def test_clocks_of_hosts_are_put_right(tmp_path):
    job = Job(one_f_one_b_order(4, 8), steps=4, jitter=0.05)
    found = opened(tmp_path, job, shifts=[0.0, 0.03, -0.02, 0.011])
    assert found.fit.explained == pytest.approx(1.0, abs=0.005)
    assert found.duration == pytest.approx(median(job.duration(*at) for at in job.numbers()), 0.01)
    assert 0 < found.trace.setting.clock_error < 2e-3


def test_messages_sent_and_received_in_one_call_are_both(tmp_path):
    rows = rows_of(Job(one_f_one_b_order(4, 8)), fused=True)
    (trace, *_) = Trace.read(write(tmp_path / "t.json", rows))
    kinds = [e.kind for e in trace.events if e.rank == 1]
    assert kinds.count("SEND_F") == kinds.count("RECV_B") == kinds.count("RECV_F") == 8
    assert "messages left out" not in "".join(trace.setting.notes)


def test_with_ranks_missing_the_schedule_is_still_recognised(tmp_path):
    job = Job(one_f_one_b_order(4, 8), replicas=2)
    found = opened(tmp_path, job, skip=lambda step, replica, rank: rank == 2)
    assert found.order == "1F1B on the 3 ranks that were recorded"
    assert found.formula[1] == pytest.approx(3 / 11) and found.what_ifs == ()
    found = opened(tmp_path, job, skip=lambda step, replica, rank: rank == 3)
    assert found.order == "1F1B on the 3 ranks that were recorded"
    assert (found.ranks, found.formula[1], found.what_ifs) == (4, pytest.approx(3 / 11), ())
    found = opened(tmp_path, job, skip=lambda step, replica, rank: (step, rank) == (8, 2))
    assert found.num_steps == 4 and found.order == "1F1B"


def test_steps_with_other_numbers_of_microbatches_do_not_stop_it(tmp_path):
    long, short = (Job(one_f_one_b_order(3, m), replicas=2, jitter=0.1) for m in (6, 4))
    rows = [row for row in rows_of(long) if row["pid"] == 0]
    rows += [row for row in rows_of(short) if row["pid"] == 1]
    found = diagnose(Trace.read(write(tmp_path / "t.json", rows)))
    assert found.microbatches == 6 and found.fit.explained == pytest.approx(1.0, abs=0.005)

"""worker="torch": the same pipeline run by torch.distributed.pipelining, and recorded by us."""

import json
import random
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.action import COMPUTE, Action, Kind
from pipelab.engine import Pipeline, verify_gradients
from pipelab.errors import BatchError, PipelabError, RankError, ScheduleError
from pipelab.schedules import Schedule, gpipe, one_f_one_b, validate
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.simulator import Cost
from tests.engine.one_process import assert_same, batch, gradients, linears, plain_loop
from tests.schedules.strategies import can_run

SGD = partial(torch.optim.SGD, lr=0.5)
V_SHAPED = {"dual_pipe_v", "v_half", "v_min", "zero_bubble_v"}
LOOPED = {"interleaved", "looped_bfs"}


def families(p, m):
    """All builders' schedules, in groups that put the stages on the same ranks."""
    groups = [set(BUILDERS) - LOOPED - V_SHAPED, LOOPED, V_SHAPED]
    fitting = [[n for n in sorted(group) if BUILDERS[n].fewest(p) <= m] for group in groups]
    return [[build(name, p, m) for name in group] for group in fitting]


def computed(trace):
    """What each rank computed, in order."""
    rows = [[] for _ in range(trace.num_ranks)]
    for event in trace.events:
        if event.kind in COMPUTE:
            rows[event.rank].append(f"{event.stage}{event.kind}{event.microbatch}")
    return rows


@pytest.mark.parametrize("p", [2, 4])
@pytest.mark.parametrize("family", [0, 1, 2])
@pytest.mark.parametrize("worker", ["torch", "pipelab"])
def test_gradients_of_both_workers_equal_one_process_under_every_builder(p, family, worker):
    m, rows = 4, 12
    model, (x, y) = linears(depth=8), batch(rows)
    loss = plain_loop(model, x, y, m)
    schedules = families(p, m)[family]
    with Pipeline(model, schedules[0], loss=cross_entropy, worker=worker) as pipeline:
        for schedule in schedules:
            pipeline.use(schedule)
            result = pipeline.step(x, y)
            ours = pipeline.gradients()
            assert computed(result.trace) == [
                [a.token for a in row] for row in schedule.compute.ranks
            ], schedule.name
            assert result.loss == pytest.approx(loss, rel=1e-6)
            for name, gradient in gradients(model).items():
                error = (ours[name] - gradient).norm() / gradient.norm()
                assert error < 1e-6, (schedule.name, name)


@pytest.fixture(scope="module")
def raw():
    """What torch.distributed.pipelining does as its documentation has it, by trial."""
    script = Path(__file__).with_name("raw_torch.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


WORKERS = pytest.mark.parametrize("worker", ["pipelab", "torch"])


def check_step(model, schedule, x, y, loss=cross_entropy, **options):
    """One step has the gradients and the loss of one process."""
    report = verify_gradients(model, schedule, x, y, loss, **options)
    assert report.ok, report


@WORKERS
def test_accumulate_two_steps_before_zero_grad(worker, raw):
    assert raw["accumulate"] == pytest.approx([1.25, 1.25])  # the old part is divided again
    model, (x, y) = linears(), batch(8)
    with Pipeline(model, gpipe(2, 4), loss=cross_entropy, worker=worker) as pipeline:
        for _ in range(2):
            pipeline.step(x, y, update=False)
            plain_loop(model, x, y, 4)
        assert_same(pipeline.gradients(), gradients(model))


@WORKERS
def test_evaluate_after_a_step_leaves_the_gradients(worker, raw):
    assert raw["evaluate"] == pytest.approx([0.25, 0.25])  # divided once more, by 4
    model, (x, y) = linears(), batch(8)
    with Pipeline(model, gpipe(2, 4), loss=cross_entropy, worker=worker) as pipeline:
        pipeline.step(x, y)
        before = pipeline.gradients()
        pipeline.evaluate(x, y)
        assert_same(pipeline.gradients(), before)


@WORKERS
def test_batchnorm_counts_no_trial_forward(worker, raw):
    assert raw["batchnorm"] == [5, 5]  # the trial by which it learns shapes counts too
    model, (x, y) = [nn.BatchNorm1d(8), nn.BatchNorm1d(8)], batch(8)
    with Pipeline(model, gpipe(2, 4), loss=cross_entropy, worker=worker) as pipeline:
        pipeline.step(x, y)
        state = pipeline.state_dict()
    plain = nn.Sequential(*(nn.BatchNorm1d(8) for _ in range(2)))
    plain_loop(plain, x, y, 4)
    for name, value in plain.state_dict().items():
        assert torch.equal(state[name], value), name


@WORKERS
def test_order_of_the_last_stage_may_differ(worker, raw):
    assert raw["order"][0] > 0.1  # the n-th loss computed is taken for microbatch n's
    rows = "0F0,0F1,0B0,0B1\n1F1,1F0,1B0,1B1\n"
    check_step(linears(), Schedule.from_csv(rows), *batch(8), worker=worker)


def test_crossed_messages_are_refused(raw):
    assert min(raw["crossed"]) > 0.1  # accepted, and microbatches are swapped
    zero = "0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1,0STEP"
    one = "1RECV_F1,1RECV_F0,1F0,1F1,1B0,1SEND_B0,1B1,1SEND_B1,1STEP"
    with pytest.raises(ScheduleError):
        validate(Schedule.from_csv(f"{zero}\n{one}\n"))


@WORKERS
def test_tied_weights_have_the_gradient_of_both_uses(worker, raw):
    assert min(raw["tied"]) > 0.1  # each rank knows only the gradient of its own use
    layers = [nn.Linear(8, 8), nn.Linear(8, 8)]
    layers[1].weight = layers[0].weight
    report = verify_gradients(layers, gpipe(2, 2), *batch(8), cross_entropy, worker=worker)
    assert report.ok, str(report)


@WORKERS
def test_sum_loss_is_said_to_be_one(worker, raw):
    assert raw["summed"] == pytest.approx([0.25, 0.25])  # divided by m, as if it were a mean
    x, (_, y) = batch(8)[0], batch(8)
    total = partial(cross_entropy, reduction="sum")
    check_step(linears(), gpipe(2, 4), x, y, total, reduction="sum", worker=worker)
    with pytest.raises(PipelabError, match="sum"):
        Pipeline(linears(), gpipe(2, 4), loss=total, worker=worker)


def test_uneven_batches(raw):
    for trial in ("uneven", "smaller"):
        assert "Connection closed by peer" in raw[trial][0]  # all that rank 0 gets to know
        assert "batch_size" in raw[trial][1]
    check_step(linears(), gpipe(2, 4), *batch(7))
    with Pipeline(linears(), gpipe(2, 4), loss=cross_entropy, worker="torch") as pipeline:
        with pytest.raises(BatchError, match=r"2, 2, 2, 1 rows.*a multiple of 4 rows"):
            pipeline.step(*batch(7))
        pipeline.step(*batch(8))
        pipeline.step(*batch(4))  # of another size, but even


@WORKERS
def test_few_microbatches_are_enough(worker, raw):
    assert "greater than or equal to the number of stages" in raw["few"][0]
    check_step(linears(), one_f_one_b(2, 1), *batch(8), worker=worker)


def test_inplace_layer_at_the_start_of_a_stage(raw):
    assert "leaf Variable" in raw["inplace"][1]
    layers = [nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 8)]
    stages = [layers[0], nn.Sequential(*layers[1:])]
    check_step(stages, gpipe(2, 4), *batch(8))
    with (
        Pipeline(stages, gpipe(2, 4), loss=cross_entropy, worker="torch") as pipeline,
        pytest.raises(RankError, match="leaf Variable"),
    ):
        pipeline.step(*batch(8))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"overlap": False}, "overlap=False"),
        ({"checkpoint": True}, "checkpoint="),
        ({"stop_at_nan": True}, "stop_at_nan="),
        ({"memory_budget": 10**9}, "memory_budget="),
        ({"pace": Cost(0.01, 0.01, 0.01, latency=0.001)}, "latency"),
    ],
)
def test_what_torch_cannot_do_is_refused_before_launch(options, word):
    with pytest.raises(PipelabError, match=word):
        Pipeline(linears(), gpipe(2, 2), loss=cross_entropy, worker="torch", **options)


def test_an_untried_version_is_refused(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    with pytest.raises(PipelabError, match=r"tried with PyTorch 2\.13; here is 2\.99\.0"):
        Pipeline(linears(), gpipe(2, 2), loss=cross_entropy, worker="torch")


def test_replicas_clipping_and_training_as_ours():
    found = []
    for worker in ("pipelab", "torch"):
        with Pipeline(
            linears(), one_f_one_b(2, 2), loss=cross_entropy, optimizer=SGD, replicas=2,
            clip_norm=0.1, worker=worker,
        ) as pipeline:  # fmt: skip
            norms = [pipeline.step(*batch(8)).gradient_norm for _ in range(3)]
            found.append((norms, pipeline.state_dict()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for name, value in found[0][1].items():
        assert torch.allclose(found[1][1][name], value, rtol=1e-5), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_and_its_loss_scale_as_ours(dtype):
    found = []
    for worker in ("pipelab", "torch"):
        with Pipeline(
            linears(), one_f_one_b(2, 2), loss=cross_entropy, optimizer=SGD, autocast=dtype,
            worker=worker,
        ) as pipeline:  # fmt: skip
            losses = [pipeline.step(*batch(8)).loss for _ in range(2)]
            found.append((losses, pipeline.gradients()))
    assert found[0][0] == found[1][0]
    assert_same(*(gradients for _, gradients in found))


@pytest.mark.timing
def test_waits_stand_apart_from_paced_computation():
    cost, schedule = Cost(0.01, 0.01, 0.01), gpipe(2, 2)
    with Pipeline(linears(), schedule, loss=cross_entropy, pace=cost, worker="torch") as pipeline:
        pipeline.step(*batch(8))
        traces = [pipeline.step(*batch(8)).trace for _ in range(5)]
    trace = min(traces, key=lambda trace: trace.duration)  # the least disturbed
    times = {kind: [e.end - e.start for e in trace.events if e.kind is kind] for kind in Kind}
    assert times[Kind.F] == pytest.approx([0.01] * 4, rel=0.4)
    assert times[Kind.B] == pytest.approx([0.02] * 4, rel=0.4)
    assert len(times[Kind.WAIT]) == len(times[Kind.SEND_F] + times[Kind.SEND_B]) == 4
    assert max(times[Kind.WAIT]) > 0.015  # rank 0 waits for the other's F and B


def shuffled(p, stages_per_rank, m, seed):
    """A valid schedule in random order, on stages placed at random, some backwards halved."""
    rng, num_stages = random.Random(seed), p * stages_per_rank
    homes = [rank for rank in range(p) for _ in range(stages_per_rank)]
    rng.shuffle(homes)
    todo = []
    for stage in range(num_stages):
        for i in range(m):
            halved = rng.random() < 0.5
            kinds = (Kind.F, Kind.I, Kind.W) if halved else (Kind.F, Kind.B)
            todo += [Action(stage, kind, i) for kind in kinds]
    rows, done = [[] for _ in range(p)], set()
    while todo:
        action = rng.choice([a for a in todo if can_run(a, done, num_stages)])
        todo.remove(action)
        done.add(action)
        rows[homes[action.stage]].append(action)
    return Schedule(tuple(map(tuple, rows)))


@pytest.mark.parametrize(("p", "stages_per_rank", "m"), [(2, 1, 4), (2, 2, 3), (3, 1, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_any_valid_schedule_gives_one_process_gradients(p, stages_per_rank, m, seed):
    schedule = shuffled(p, stages_per_rank, m, seed)
    validate(schedule)
    model, (x, y) = linears(depth=8), batch(2 * m)
    loss = plain_loop(model, x, y, m)
    for worker in ("torch", "pipelab"):
        with Pipeline(model, schedule, loss=cross_entropy, worker=worker) as pipeline:
            result = pipeline.step(x, y)
            ours = pipeline.gradients()
        assert computed(result.trace) == [[a.token for a in row] for row in schedule.ranks]
        assert result.loss == pytest.approx(loss, rel=1e-6)
        for name, gradient in gradients(model).items():
            error = (ours[name] - gradient).norm() / gradient.norm()
            assert error < 1e-6, (worker, name, str(schedule))


class Loaded(nn.Module):
    """Fails where its process has loaded torch's pipelines."""

    def forward(self, x):
        assert "torch.distributed.pipelining" not in sys.modules
        return x


def test_ranks_of_our_own_worker_do_not_load_torchs():
    model, (x, y) = nn.Sequential(*linears(2), Loaded()), batch(4)  # a second of each launch
    with Pipeline(model, gpipe(2, 2), loss=cross_entropy) as pipeline:
        assert pipeline.step(x, y).loss > 0

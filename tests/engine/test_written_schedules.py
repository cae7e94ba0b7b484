"""Schedules written by hand: ``use`` refuses what ``validate`` refuses; the ranks run the rest."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.action import COMPUTE, MESSAGES, PER_STAGE, Action, Kind
from pipelab.engine import Pipeline, verify_gradients
from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule, gpipe, one_f_one_b, validate
from pipelab.schedules.communication import Lowered, lower
from pipelab.simulator import Cost
from pipelab.widgets.live import LiveRun
from pipelab.widgets.settings import Settings

# Both sends stand behind both computations, and all buffers are opened at the start.
LATE_SENDS = """
0RECV_B0,0RECV_B1,0F0,0F1,0SEND_F0,0SEND_F1,0B0,0B1
1RECV_F0,1RECV_F1,1F0,1F1,1B0,1B1,1SEND_B0,1SEND_B1
"""
BUFFERED = """
0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0,0RECV_B1,0B1
1RECV_F0,1F0,1B0,1SEND_B0,1RECV_F1,1F1,1B1,1SEND_B1
"""
EARLY_STEP = """
0F0,0SEND_F0,2RECV_F0,2F0,2SEND_F0,2RECV_B0,2B0,2SEND_B0,2STEP,0RECV_B0,0B0
1RECV_F0,1F0,1SEND_F0,3RECV_F0,3F0,1RECV_B0,3B0,3SEND_B0,3STEP,1B0,1SEND_B0,1STEP
"""


def layers(number=4):
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(8, 8) for _ in range(number)))


def batch(rows=8):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(rows, 8, generator=generator)
    return inputs, torch.randint(8, (rows,), generator=generator)


def recorded(trace, kinds):
    """For each rank, the tokens of what it did, in order."""
    rows = [[] for _ in range(trace.num_ranks)]
    for e in trace.events:
        if e.kind in kinds:
            rows[e.rank].append(Action(e.stage, e.kind, e.microbatch).token)
    return rows


def written(schedule, kinds):
    return [[a.token for a in row if a.kind in kinds] for row in schedule.ranks]


@pytest.mark.parametrize(
    "rows",
    [
        [["0F0", "0B0", "0F1"], ["1F0", "1B0", "1F1"]],  # its gradient would be lost
        [["0F0", "0F1", "0B1", "0B1"], ["1F0", "1F1", "1B0", "1B1"]],
        [["0F0", "0B0", "0F1", "0B1"], ["1F1", "1B1", "1F0", "1B0"]],
        [row.split(",") for row in BUFFERED.split()],  # it needs sends that do not block
    ],
    ids=["no backward", "doubled", "deadlock", "deadlock of messages"],
)
def test_use_refuses_what_validate_refuses(rows):
    broken = Schedule.from_tokens(rows)
    with pytest.raises(ScheduleError) as judged:
        validate(broken)
    with Pipeline(layers(), gpipe(2, 2), loss=cross_entropy) as pipeline:
        with pytest.raises(ScheduleError) as refused:
            pipeline.use(broken)
        assert str(refused.value) == str(judged.value)
        assert type(refused.value) is type(judged.value)
        assert pipeline.step(*batch()).loss > 0  # the pipeline follows its old schedule


def test_messages_written_by_hand_are_what_the_ranks_run():
    schedule = Schedule.from_csv(LATE_SENDS)
    with Pipeline(layers(), gpipe(2, 2), loss=cross_entropy) as pipeline:
        before = pipeline.step(*batch())
        placed = recorded(before.trace, COMPUTE | MESSAGES)
        pipeline.use(schedule)
        pipeline.step(*batch())  # the first batch learns the forms of the messages
        trace = pipeline.step(*batch()).trace
        loss = pipeline.evaluate(*batch())
        assert pipeline.predict(batch()[0]).shape == (8, 8)
    assert recorded(trace, COMPUTE | MESSAGES) == written(schedule, COMPUTE | MESSAGES) != placed
    assert loss == pytest.approx(before.loss, rel=1e-6)
    report = verify_gradients(layers(), schedule, *batch(), cross_entropy)
    assert all(row.exact for row in report.parameters)


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("text", [LATE_SENDS, EARLY_STEP], ids=["no step", "early step"])
def test_what_a_schedule_by_hand_lacks_is_added(text, replicas):
    """Each stage steps once, with the gradient of the whole batch, whether or not STEP is there."""
    schedule = Schedule.from_csv(text)
    with pipeline_of(schedule, replicas) as pipeline:
        trace = pipeline.step(*batch()).trace
        parameters = pipeline.state_dict()
    with pipeline_of(schedule.compute, replicas) as pipeline:
        pipeline.step(*batch())
        placed = pipeline.state_dict()
    assert all(torch.equal(parameters[name], placed[name]) for name in placed)
    kinds = [a for row in recorded(trace, PER_STAGE) for a in row]
    assert sorted(kinds) == sorted(
        replicas * [f"{stage}STEP" for stage in range(schedule.num_stages)]
        + replicas * (replicas > 1) * [f"{s}REDUCE_GRAD" for s in range(schedule.num_stages)]
    )
    if text == EARLY_STEP:
        assert recorded(trace, COMPUTE | {Kind.STEP})[0] == [
            "0F0",
            "2F0",
            "2B0",
            "2STEP",
            "0B0",
            "0STEP",
        ]


def test_a_step_by_hand_waits_for_the_norm_of_the_whole_model():
    """Clipping needs all gradients: a STEP that stands before another stage's backward is late."""
    found = []
    for schedule in (Schedule.from_csv(EARLY_STEP), Schedule.from_csv(EARLY_STEP).compute):
        with pipeline_of(schedule, 1, clip_norm=0.01) as pipeline:
            pipeline.step(*batch())
            found.append(pipeline.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def pipeline_of(schedule, replicas, **options):
    def optimizer(parameters):
        return torch.optim.SGD(parameters, lr=0.1)

    return Pipeline(
        layers(), schedule, loss=cross_entropy, optimizer=optimizer, replicas=replicas, **options
    )


def test_a_schedule_is_lowered_once_for_each_use(monkeypatch):
    made = []
    judged = Lowered.__post_init__
    monkeypatch.setattr(
        Lowered, "__post_init__", lambda self, maker: (made.append(self), judged(self, maker))
    )
    with Pipeline(layers(), gpipe(2, 2), loss=cross_entropy) as pipeline:
        assert len(made) == 1
        pipeline.use(one_f_one_b(2, 2))
        assert len(made) == 2
        pipeline.step(*batch())
        pipeline.evaluate(*batch())
        ready = lower(one_f_one_b(2, 4))
        pipeline.use(ready)
        assert made[2:] == [ready]
        assert pipeline.schedule == one_f_one_b(2, 4)


def test_a_live_run_lowers_its_schedule_once(monkeypatch):
    made = []
    judged = Lowered.__post_init__
    monkeypatch.setattr(
        Lowered, "__post_init__", lambda self, maker: (made.append(self), judged(self, maker))
    )
    settings = Settings(2, 2, "gpipe", Cost(0.002, 0.002, 0.002))
    run = LiveRun(1, settings, lambda run: None)
    assert run.ended.wait(60)
    assert run.state == "done", run.error
    assert run.predicted is not None
    assert len(made) == 1

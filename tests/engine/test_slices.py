"""Sequences in slices on real ranks: the uncut model's gradients, and what cannot be cut so."""

import copy
from functools import partial

import pytest
import torch
import torch._dynamo  # checkpoint loads it: in a rank that is a thread it would take seconds
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.action import Kind
from pipelab.engine import Pipeline, verify_gradients
from pipelab.errors import BatchError, PipelabError, RankError
from pipelab.models import next_byte_loss, tiny_gpt
from pipelab.models.slices import tokens_before, with_earlier
from pipelab.schedules import Schedule, one_f_one_b, seq1f1b
from pipelab.schedules.sliced import equal_work, slice_work
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace

TOKENS = 12
PIECES = ("0.0", "0.1", "1.0", "1.1")


@pytest.fixture
def gpt(double):
    torch.manual_seed(0)
    return tiny_gpt(width=8, blocks=4, heads=2, context=TOKENS)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def batch(rows, tokens=TOKENS):
    return torch.randint(256, (rows, tokens)), torch.randint(256, (rows, tokens))


def differences(pipeline, model, x, y, loss=next_byte_loss):
    """The largest relative difference of a gradient from those of the uncut model, whole batch."""
    plain = copy.deepcopy(model)
    value = loss(plain(x), y)
    value.backward()
    result, found = pipeline.step(x, y), pipeline.gradients()
    assert result.loss == pytest.approx(value.item(), rel=1e-12)
    wanted = {name: p.grad for name, p in plain.named_parameters()}
    assert found.keys() == wanted.keys()
    return result.trace, max(
        float((found[n] - g).abs().max() / g.abs().max()) for n, g in wanted.items()
    )


@pytest.mark.parametrize(
    "schedule",
    [
        seq1f1b(3, 3, 2),
        seq1f1b(2, 2, 4),
        seq1f1b(2, 3, [0.5, 0.3, 0.2]),
        seq1f1b(1, 2, equal_work(3, 0.5)),
        seq1f1b(3, 2, 5),
        seq1f1b(3, 3, 2, halves=True),
        seq1f1b(2, 3, [0.5, 0.3, 0.2], halves=True),
        seq1f1b(1, 2, equal_work(3, 0.5), halves=True),
        Schedule.from_tokens(  # late W, and B and I of one microbatch mixed
            [
                ["0F0.0", "0F0.1", "0F0.2", "0I0.2", "0I0.1", "0W0.2", "0W0.1", "0B0.0"],
                ["1F0.0", "1F0.1", "1F0.2", "1I0.2", "1W0.2", "1B0.1", "1I0.0", "1W0.0"],
            ]
        ),
        Schedule.from_tokens(  # GPipe over slices, two stages on a rank
            [
                [f"{s}F{i}" for s in (0, 2) for i in PIECES]
                + [f"{s}B{i}" for s in (2, 0) for i in reversed(PIECES)],
                [f"1F{i}" for i in PIECES] + [f"1B{i}" for i in reversed(PIECES)],
            ]
        ),
    ],
    ids=lambda s: f"{s.name} {s.num_ranks} {s.num_microbatches} {s.slices}",
)
@pytest.mark.parametrize("checkpoint", [False, True], ids=["kept", "run again"])
def test_gradients_are_those_of_the_uncut_model(in_process, gpt, schedule, checkpoint):
    x, y = batch(5)  # microbatches of unequal rows
    with Pipeline(gpt, schedule, loss=next_byte_loss, checkpoint=checkpoint) as pipeline:
        for _ in range(2):  # without an optimizer, the same gradients again
            trace, difference = differences(pipeline, gpt, x, y)
            assert difference < 1e-12
        assert trace.setting.slices == schedule.slices
        numbers = {str(e.microbatch) for e in trace.events if e.kind is Kind.F}
        assert numbers == {f"{i}.{j}" for i in range(schedule.num_microbatches)
                           for j in range(schedule.slices)}  # fmt: skip
        assert pipeline.evaluate(x, y) == pytest.approx(next_byte_loss(gpt(x), y).item())
        assert torch.allclose(pipeline.predict(x), gpt(x))


def test_on_real_ranks_with_replicas_counts_and_other_schedules(gpt):
    x, y = batch(8)
    y[:, 9:] = -100  # the last slice counts less

    def loss(logits, targets):
        return cross_entropy(logits.flatten(0, 1), targets.flatten())

    report = verify_gradients(
        gpt, seq1f1b(2, 2, 3), x, y, loss, replicas=2, count=lambda t: (t != -100).sum()
    )
    assert report.ok, str(report)
    with Pipeline(gpt, one_f_one_b(2, 2), loss=next_byte_loss) as pipeline:
        assert differences(pipeline, gpt, *batch(4))[1] < 1e-12
        pipeline.use(seq1f1b(2, 4, 2))
        assert differences(pipeline, gpt, *batch(4, 7))[1] < 1e-12  # slices of 4 and 3 tokens
        pipeline.use(one_f_one_b(2, 4))
        assert differences(pipeline, gpt, *batch(4))[1] < 1e-12


def test_later_slices_keep_more_and_all_is_given_back(in_process, gpt):
    with Pipeline(gpt, seq1f1b(2, 2, 3), loss=next_byte_loss) as pipeline:
        trace = pipeline.step(*batch(2)).trace
    kept = [e.bytes for e in trace.events if e.kind is Kind.F and e.rank == 0]
    assert kept[0] < kept[1] < kept[2]
    assert kept[:3] == kept[3:], "the same in each microbatch"
    assert trace.peak_activation_bytes[0] < sum(kept)


def test_steps_in_flight_train_as_one_process_does(gpt):
    batches = [batch(4) for _ in range(4)]
    plain = copy.deepcopy(gpt)
    sgd = torch.optim.SGD(plain.parameters(), lr=0.1)
    options = {"loss": next_byte_loss, "optimizer": partial(torch.optim.SGD, lr=0.1)}
    with Pipeline(gpt, seq1f1b(2, 2, 3), **options) as pipeline:
        results = [*pipeline.train(batches, in_flight=2)]
        found = pipeline.state_dict()
    for (x, y), result in zip(batches, results, strict=True):
        sgd.zero_grad()
        loss = next_byte_loss(plain(x), y)
        loss.backward()
        sgd.step()
        assert result.loss == pytest.approx(loss.item(), rel=1e-12)
    for name, wanted in plain.state_dict().items():
        assert torch.allclose(found[name], wanted, rtol=1e-12, atol=1e-14)
    joined = Trace.joined([result.trace for result in results])
    assert joined.setting.steps == 4
    assert {str(e.microbatch) for e in joined.step(3).events if e.kind is Kind.F} == {
        f"{i}.{j}" for i in range(2) for j in range(3)
    }


class Mean(nn.Module):
    """Mixes tokens, and knows nothing of slices."""

    def forward(self, x):
        return x + x.mean(1, keepdim=True)


class Running(nn.Module):
    """Sums of all tokens so far, and their number: a layer of one's own that knows of slices."""

    def forward(self, x):
        (whole,) = with_earlier(self, x, dim=1)
        sums = whole.cumsum(1)[:, -x.shape[1] :]
        numbers = tokens_before() + torch.arange(1, x.shape[1] + 1, dtype=x.dtype)
        return x + sums / numbers[:, None]


def mean_loss(output, target):
    return (output - target).square().mean()


def test_a_layer_of_ones_own_may_look_back(in_process, double):
    again = Running()
    model = nn.Sequential(nn.Linear(3, 3), again, nn.Tanh(), again, nn.Linear(3, 3), Running())
    x, y = torch.randn(4, 9, 3), torch.randn(4, 9, 3)
    with Pipeline(model, seq1f1b(2, 2, 3), loss=mean_loss, split=[4, 2]) as pipeline:
        assert differences(pipeline, model, x, y, mean_loss)[1] < 1e-12


@pytest.mark.parametrize("checkpoint", [False, [0]])
def test_it_may_do_so_in_halves_and_again(in_process, double, checkpoint):
    """A layer that is called twice in a forward, W behind other I, a forward that runs again."""
    again = Running()
    model = nn.Sequential(nn.Linear(3, 3), again, nn.Linear(3, 3), nn.Tanh(), again, nn.Tanh())
    model = nn.Sequential(*model, nn.Linear(3, 3), Running())
    x, y = torch.randn(4, 9, 3), torch.randn(4, 9, 3)
    options = {"loss": mean_loss, "split": [6, 2], "checkpoint": checkpoint}
    with Pipeline(model, seq1f1b(2, 2, 3, halves=True), **options) as pipeline:
        assert differences(pipeline, model, x, y, mean_loss)[1] < 1e-12


def test_a_stage_that_runs_again_keeps_keys_and_values_too(in_process, gpt):
    found = {}
    for checkpoint in (False, True):
        schedule = seq1f1b(2, 1, 2, halves=True)
        with Pipeline(
            gpt, schedule, loss=next_byte_loss, checkpoint=checkpoint, split=[3, 3]
        ) as pipeline:
            trace = pipeline.step(*batch(1)).trace
            found[checkpoint] = [e.bytes for e in trace.events if e.kind is Kind.F and e.rank == 0]
    tokens, width, blocks, size = TOKENS // 2, 8, 2, 8  # of one slice, in bytes of float64
    qkv, output = tokens * 3 * width * size, tokens * width * size  # one tensor holds q, k and v
    ids = tokens * 8
    assert found[True] == [blocks * qkv + output + ids] * 2
    assert found[False][1] > found[False][0] > 2 * found[True][0]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_layer_that_mixes_tokens_unasked_is_refused(in_process, double, place):
    layers = [nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)]
    layers[place] = nn.Sequential(layers[place], Mean())
    x, y = torch.randn(4, 9, 3), torch.randn(4, 9, 3)
    pipeline = Pipeline(layers, seq1f1b(3, 2, 3), loss=mean_loss)
    with pytest.raises(RankError, match="looks along the") as error, pipeline:
        pipeline.step(x, y)
    assert f"stage {place}" in str(error.value)


def test_a_loss_that_is_no_mean_over_tokens_is_refused(in_process, gpt):
    def last(logits, targets):
        return cross_entropy(logits[:, -1], targets[:, -1])

    pipeline = Pipeline(gpt, seq1f1b(2, 2, 2), loss=last)
    with pytest.raises(RankError, match="no mean over tokens"), pipeline:
        pipeline.step(*batch(4))


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.zeros(4, 12, dtype=torch.long), torch.zeros(4, dtype=torch.long), "equally many"),
        (torch.zeros(4, 1, dtype=torch.long), torch.zeros(4, 1, dtype=torch.long), "of 1 tokens"),
    ],
)
def test_batches_without_sequences_are_refused(in_process, gpt, x, y, said):
    with Pipeline(gpt, seq1f1b(2, 2, 2), loss=next_byte_loss) as pipeline:
        with pytest.raises(BatchError, match=said):
            pipeline.step(x, y)
        assert differences(pipeline, gpt, *batch(4))[1] < 1e-12


def test_torch_runs_whole_microbatches(gpt):
    with pytest.raises(PipelabError, match="slices, but torch"):
        Pipeline(gpt, seq1f1b(2, 2, 2), loss=next_byte_loss, worker="torch")


def fastest(pipeline, m, enough):
    """The fastest of some steps, until one is fast enough: a quiet moment of a shared machine."""
    best = float("inf")
    for _ in range(8):
        best = min(best, pipeline.step(*batch(m)).trace.duration)
        if best < enough:
            break
    return best


@pytest.mark.timing
def test_equal_tokens_against_equal_work_on_paced_ranks(gpt):
    """Attention is half of the work: equal tokens lose what slices win, equal work does not."""
    attention, m, seconds = 0.5, 4, Cost(0.04, 0.04, 0.04)
    took = {}
    with Pipeline(gpt, one_f_one_b(3, m), loss=next_byte_loss) as pipeline:
        pipeline.step(*batch(m))
        for name, shares in (("tokens", (0.5, 0.5)), ("work", equal_work(2, attention))):
            schedule = seq1f1b(3, m, shares)
            pipeline.pace = seconds.by_microbatch(slice_work(shares, attention) * m)
            pipeline.use(schedule)
            predicted = simulate(schedule, pipeline.pace).duration
            took[name] = fastest(pipeline, m, 1.05 * predicted)
            assert 0.98 < took[name] / predicted < 1.12
    assert took["work"] < 0.95 * took["tokens"]

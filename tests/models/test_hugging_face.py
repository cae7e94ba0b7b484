"""A decoder as a list of layers: the same logits and gradients as the model that it comes from.

On the real classes, with random weights.
"""

from functools import partial

import pytest
import torch
from torch import nn

from pipelab.engine import Pipeline, verify_gradients
from pipelab.errors import PartitionError
from pipelab.models import next_byte_loss
from pipelab.models.hugging_face import layers_of
from pipelab.partition import as_model, call, measure, split
from pipelab.schedules.catalogue import build
from tests.engine.conftest import in_process, one_thread  # noqa: F401

IN_PROCESS = pytest.mark.usefixtures("in_process")


def decoder(kind, attention):
    import transformers  # takes seconds

    if kind == "gpt2":
        config = transformers.GPT2Config(
            n_layer=3, n_embd=32, n_head=4, vocab_size=61, n_positions=32,
            bos_token_id=0, eos_token_id=0, attn_implementation=attention,
        )  # fmt: skip
        return transformers.GPT2LMHeadModel(config)
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=61, attn_implementation=attention,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


@pytest.fixture(params=["gpt2", "llama"])
def kind(request):
    return request.param


@pytest.fixture(params=["sdpa", "eager"])
def attention(request):
    return request.param


@pytest.fixture
def model(kind, attention):
    torch.manual_seed(0)
    return decoder(kind, attention).train()  # dropout too


def tokens():
    return torch.randint(13, (2, 7), generator=torch.Generator().manual_seed(1))


def logits_and_gradients(run, parameters):
    torch.manual_seed(2)
    logits = run(tokens())
    logits.logsumexp(-1).mean().backward()
    gradients = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    return logits.detach(), gradients


def test_any_cut_computes_what_the_model_does(model):
    chain = as_model(layers_of(model))
    parameters = list(model.parameters())
    assert {id(p) for p in chain.parameters()} == {id(p) for p in parameters}
    wanted, expected = logits_and_gradients(lambda x: model(x).logits, parameters)
    for sizes in [[1, 1, 1, 1, 1], [2, 3], [4, 1]]:
        stages = split(chain, len(sizes), sizes=sizes)

        def run(value, stages=stages):
            for stage in stages:
                value = call(stage, value)
            return value

        logits, gradients = logits_and_gradients(run, parameters)
        assert torch.equal(logits, wanted)
        assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))


def test_blocks_of_older_releases_return_tuples(kind):
    class Tupled(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.block = block

        def forward(self, *given, **options):
            output = self.block(*given, **options)
            return output if isinstance(output, tuple) else (output,)

    torch.manual_seed(0)
    layers = layers_of(decoder(kind, "sdpa").eval(), untie=True)
    wanted = as_model(layers)(tokens())
    for layer in layers[1:-1]:
        layer.block = Tupled(layer.block)
    assert torch.equal(as_model(layers)(tokens()), wanted)


def test_no_token_sees_a_later_one(model):
    chain = as_model(layers_of(model.eval()))
    x = tokens()
    changed = x.clone()
    changed[:, 4:] = 0
    before, after = chain(x), chain(changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_tied_weights_are_untied_by_a_copy_if_asked_for():
    model = decoder("gpt2", "sdpa")
    assert layers_of(model)[-1].head.weight is model.transformer.wte.weight
    layers = layers_of(model, untie=True)
    assert len(split(layers, 5)) == 5
    head = layers[-1].head.weight
    assert torch.equal(head, model.lm_head.weight) and head is not model.lm_head.weight
    assert model.lm_head.weight is model.transformer.wte.weight  # the model itself stays tied


def test_untie_leaves_what_is_not_tied():
    model = decoder("llama", "sdpa")
    assert layers_of(model, untie=True)[-1].head is model.lm_head


def test_it_is_measured_and_cut_by_time(model):
    chain = layers_of(model, untie=True)
    rows = measure(chain, tokens(), repeats=1)
    assert [row.output_bytes for row in rows[:-1]] == [rows[0].output_bytes] * 4
    assert len(split(chain, 3, "time", tokens())) == 3


def test_it_trains_on_real_ranks_bit_for_bit(kind):
    torch.manual_seed(0)
    layers = layers_of(decoder(kind, "sdpa").train())
    x = torch.randint(61, (6, 9))
    schedule = build("zero_bubble_h1", 2, 3)
    report = verify_gradients(layers, schedule, x[:, :-1], x[:, 1:], next_byte_loss)
    rounded = {row.name for row in report.parameters if not row.exact}
    assert report.ok and rounded <= ({"0.wte.weight"} if kind == "gpt2" else set()), str(report)


@IN_PROCESS
@pytest.mark.parametrize(("untie", "microbatches"), [(True, 3), (False, 1)])
def test_gpt2_is_exact_untied_or_with_one_microbatch(untie, microbatches):
    torch.manual_seed(0)
    layers = layers_of(decoder("gpt2", "sdpa").eval(), untie=untie)
    x = torch.randint(61, (6, 9))
    schedule = build("1f1b", 2, microbatches)
    report = verify_gradients(layers, schedule, x[:, :-1], x[:, 1:], next_byte_loss)
    assert report.ok and all(row.exact for row in report.parameters), str(report)


@IN_PROCESS
def test_gpt2_trains_tied_as_in_one_process():
    torch.manual_seed(0)
    model = decoder("gpt2", "sdpa").eval()  # no dropout
    adam = partial(torch.optim.AdamW, lr=0.01)
    x = torch.randint(61, (6, 9))
    with Pipeline(
        layers_of(model), build("1f1b", 3, 2), loss=next_byte_loss, optimizer=adam
    ) as pipeline:
        losses = [pipeline.step(x[:, :-1], x[:, 1:]).loss for _ in range(3)]
        state = pipeline.state_dict()
    optimizer = adam(model.parameters())
    for loss in losses:
        optimizer.zero_grad()
        own = next_byte_loss(model(x[:, :-1]).logits, x[:, 1:])
        own.backward()
        optimizer.step()
        assert loss == pytest.approx(own.item(), rel=1e-5)
    assert torch.equal(state["0.wte.weight"], state["4.head.weight"])
    as_model(layers_of(model)).load_state_dict(state)
    torch.testing.assert_close(model.lm_head.weight, state["4.head.weight"], rtol=0, atol=0)


def test_other_models_are_refused():
    model = decoder("llama", "sdpa")
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(PartitionError, match=r"'flash_attention_2'.*attn_implementation='sdpa'"):
        layers_of(model)
    model.config.model_type = "gemma"
    with pytest.raises(PartitionError, match="is a LlamaForCausalLM \\(of type gemma\\), neither"):
        layers_of(model)
    with pytest.raises(PartitionError, match="is a Linear"):
        layers_of(nn.Linear(2, 2))

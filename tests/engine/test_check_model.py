"""What the copy of a model would lose is refused by name; what travels with a layer is right."""

import gc
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.modules import module as torchs
from torch.optim import optimizer

from pipelab.engine import Pipeline
from pipelab.errors import BatchError, ModelError, PartitionError
from pipelab.schedules.catalogue import build
from tests.engine.one_process import assert_same, batch, gradients, linears, plain_loop

M = 4


def half(gradient):
    return gradient * 0.5


def of_node(register):
    def setup(model):
        node = torch.autograd.graph.get_gradient_edge(model[2].weight).node
        getattr(node, register)(lambda *gradients: None)
        return node  # somebody holds it, as it would be lost else

    return setup


def buffer_with_hook(model):
    model[2].register_buffer("scale", torch.ones(8, requires_grad=True))
    model[2].scale.register_hook(half)


def hook_of_a_list(model):
    model[2].more = [torch.ones(8, requires_grad=True)]
    model[2].more[0].register_hook(half)


def computed(model):
    model[2].scale = model[3].weight * 2


def computed_buffer(model):
    model[2].register_buffer("scale", model[2].weight.sum(0))


def share_data(model):
    model[3].weight.data = model[2].weight.data


def share_with_buffer(model):
    model[3].register_buffer("mean", model[0].weight.data)


def hook_with_a_weight(model):
    weight = model[0].weight
    model[2].register_forward_hook(lambda layer, inputs, output: output @ weight)


def layer_aside(model):
    model[2].others = [model[0]]


TENSORS = {
    "hook": (lambda m: m[2].weight.register_hook(half), "weight of layer 2 .stage 1. .*_hook"),
    "post-accumulate": (
        lambda m: m[2].bias.register_post_accumulate_grad_hook(half),
        "bias of layer 2 .stage 1. .*register_post_accumulate_grad_hook",
    ),
    "several": (
        lambda m: torch.autograd.graph.register_multi_grad_hook([*m.parameters()], half),
        "weight of layer 0 .stage 0. .*register_hook",
    ),
    "node": (of_node("register_hook"), "weight of layer 2 .stage 1. .*grad_fn"),
    "before a node": (of_node("register_prehook"), "weight of layer 2 .stage 1. .*grad_fn"),
    "buffer": (buffer_with_hook, "scale of layer 2 .stage 1. .*register_hook"),
    "list": (hook_of_a_list, r"a tensor of shape \(8,\) of layer 2 .stage 1. .*register_hook"),
    "computed": (computed, r"a tensor of shape \(8, 8\) of layer 2 .stage 1. .*MulBackward0"),
    "computed buffer": (computed_buffer, "scale of layer 2 .stage 1. .*SumBackward1"),
    "weight in a hook": (hook_with_a_weight, "layer 2 .stage 1. refers to 0.weight"),
    "layer in a list": (layer_aside, "layer 2 .stage 1. refers to 0.weight"),
}


@pytest.mark.parametrize("what", TENSORS)
def test_a_tensor_that_a_copy_would_change_is_refused(what):
    setup, message = TENSORS[what]
    model = linears()
    kept = setup(model)
    with pytest.raises(ModelError, match=message):
        Pipeline(model, build("1f1b", 2, M), loss=cross_entropy)
    del kept


@pytest.mark.parametrize(
    ("setup", "message"),
    [
        (share_data, "(2|3).weight .stage 1. is in the memory of (3|2).weight"),
        (share_with_buffer, "is in the memory of .*, but is another tensor"),
    ],
)
def test_a_weight_in_the_memory_of_another_tensor_is_refused(setup, message):
    model = linears()
    kept = setup(model)
    with pytest.raises(PartitionError, match=message):
        Pipeline(model, build("1f1b", 2, M), loss=cross_entropy)
    del kept


OF_MODEL = [
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
    "register_state_dict_post_hook",
    "register_state_dict_pre_hook",
    "register_load_state_dict_pre_hook",
    "register_load_state_dict_post_hook",
]


@pytest.mark.parametrize("register", OF_MODEL)
def test_a_hook_of_the_whole_model_is_refused(register):
    model = linears()
    getattr(model, register)(lambda *args: None)
    with pytest.raises(ModelError, match=f"the model itself has a hook .{register}."):
        Pipeline(model, build("1f1b", 2, M), loss=cross_entropy)


@pytest.mark.parametrize(
    ("home", "register"),
    [
        (torchs, "register_module_forward_hook"),
        (torchs, "register_module_forward_pre_hook"),
        (torchs, "register_module_full_backward_hook"),
        (torchs, "register_module_full_backward_pre_hook"),
        (optimizer, "register_optimizer_step_pre_hook"),
        (optimizer, "register_optimizer_step_post_hook"),
    ],
)
def test_a_hook_of_all_modules_or_optimizers_is_refused(home, register):
    handle = getattr(home, register)(lambda *args: None)
    try:
        with pytest.raises(ModelError, match=register):
            Pipeline(linears(), build("1f1b", 2, M), loss=cross_entropy)
    finally:
        handle.remove()


def test_a_tensor_of_the_model_itself_is_refused():
    model = linears()
    model.register_buffer("steps", torch.zeros(()))
    with pytest.raises(ModelError, match="steps belongs to the model itself"):
        Pipeline(model, build("1f1b", 2, M), loss=cross_entropy)


def test_a_forward_that_was_replaced_is_refused():
    model = linears()
    model.forward = lambda x: x
    with pytest.raises(PartitionError, match="redefines forward"):
        Pipeline(model, build("1f1b", 2, M), loss=cross_entropy)


@pytest.mark.parametrize("part", ["loss", "optimizer", "lr_schedule"])
def test_a_weight_of_the_model_elsewhere_is_refused(part):
    model = linears()
    weights = [*model.parameters()]
    given = {
        "loss": lambda output, target: cross_entropy(output, target) + weights[0].square().sum(),
        "optimizer": lambda parameters: torch.optim.SGD(weights, lr=0.1),
        "lr_schedule": lambda optimizer: weights,
    }
    options = {"loss": cross_entropy, part: given[part]}
    with pytest.raises(ModelError, match=f"the {part} refers to 0.weight, a weight of the model"):
        Pipeline(model, build("1f1b", 2, M), **options)


def test_a_tensor_of_the_loss_with_a_graph_or_a_hook_is_refused():
    weight = torch.ones(8, requires_grad=True)
    with pytest.raises(ModelError, match=r"shape \(8,\) of the loss is the result of a comp"):
        Pipeline(linears(), build("1f1b", 2, M), loss=partial(cross_entropy, weight=weight * 2))
    weight.register_hook(half)
    with pytest.raises(ModelError, match=r"shape \(8,\) of the loss has a hook"):
        Pipeline(linears(), build("1f1b", 2, M), loss=partial(cross_entropy, weight=weight))


@pytest.mark.usefixtures("in_process")
def test_a_batch_with_a_graph_is_refused_where_it_trains():
    encoder, (x, y) = nn.Linear(8, 8), batch(8)
    with Pipeline(linears(), build("1f1b", 2, M), loss=cross_entropy) as pipeline:
        with pytest.raises(BatchError, match=r"inputs are the result of .*AddmmBackward0"):
            pipeline.step(encoder(x), y)
        with pytest.raises(BatchError, match=r"targets are the result of .*SoftmaxBackward0"):
            pipeline.step(x, encoder(x).softmax(1))
        pipeline.evaluate(encoder(x), y)
        pipeline.step(x.requires_grad_(), y)  # a layer may ask for gradients in its forward


@pytest.mark.usefixtures("in_process")
def test_a_loss_may_use_the_last_stages_own_weights():
    model, (x, y) = linears(), batch(8)
    weight = model[3].weight

    def loss(output, target):
        return cross_entropy(output, target) + 0.1 * weight.square().sum()

    with Pipeline(model, build("1f1b", 2, M), loss=loss) as pipeline:
        pipeline.step(x, y)
        ours = pipeline.gradients()
    plain_loop(model, x, y, M, loss=loss)
    assert_same(ours, gradients(model))


LAYERS = {
    "register_forward_hook": lambda layer, inputs, output: output * 0.5,
    "register_forward_pre_hook": lambda layer, inputs: (inputs[0] * 0.5,),
    "register_full_backward_hook": lambda layer, inputs, outputs: (inputs[0] * 0.5,),
    "register_full_backward_pre_hook": lambda layer, outputs: (outputs[0] * 0.5,),
}


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("register", LAYERS)
def test_a_hook_of_a_layer_travels_with_it(register):
    model, (x, y) = linears(), batch(8)
    getattr(model[2], register)(LAYERS[register])
    with Pipeline(model, build("1f1b", 2, M), loss=cross_entropy) as pipeline:
        pipeline.step(x, y)
        ours = pipeline.gradients()
    plain_loop(model, x, y, M)
    assert_same(ours, gradients(model))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("name", ["1f1b", "zero_bubble_h1", "zero_bubble_v"])
@pytest.mark.parametrize(
    "register", ["register_hook", "register_post_accumulate_grad_hook", "node"]
)
def test_a_hook_set_on_the_rank_runs_once_a_microbatch(name, register):
    """As the message advises: the function given as optimizer= gets the parameters there."""

    def halve(parameter):
        parameter.grad.mul_(0.5)

    def scale(parameters):
        for parameter in parameters:
            if register == "register_hook":
                parameter.register_hook(half)
            elif register == "node":
                node = torch.autograd.graph.get_gradient_edge(parameter).node
                node.register_prehook(lambda gradients: (half(gradients[0]),))
                parameter.node = node
            else:
                parameter.register_post_accumulate_grad_hook(halve)
        return torch.optim.SGD(parameters, lr=0.0)

    schedule = build(name, 2, M)
    model, (x, y) = linears(schedule.num_stages), batch(8)
    with Pipeline(model, schedule, loss=cross_entropy, optimizer=scale) as pipeline:
        pipeline.step(x, y)
        ours = pipeline.gradients()
    scale([*model.parameters()])
    plain_loop(model, x, y, M)
    assert_same(ours, gradients(model))


def test_what_was_trained_before_may_be_alive():
    """The graph of an earlier forward, and hooks that were removed, are no reason to refuse."""
    model, (x, y) = linears(), batch(8)
    alive = cross_entropy(model(x), y)
    model[0].weight.register_hook(half).remove()
    node = torch.autograd.graph.get_gradient_edge(model[1].weight).node
    node.register_hook(lambda *gradients: None).remove()
    with Pipeline(model, build("1f1b", 2, M), loss=cross_entropy) as pipeline:
        pipeline.step(x, y)
    gc.collect()
    assert alive.grad_fn is not None

"""Megatron's layouts: what they mean, what does not fit, and that any cut can be written as one."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipelab.errors import PartitionError
from pipelab.models import mlp, tiny_gpt
from pipelab.partition import cut, layout_of, split
from pipelab.partition.layout import stage_letters

GPT = tiny_gpt(width=8, blocks=6, heads=2, context=8)  # 8 layers: E, 6 t, L


def sizes(stages):
    return [len([*stage.children()]) for stage in stages]


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("E t*3 | t*3 L", [4, 4]),
        ("E|t*6|L", [1, 6, 1]),
        ("Ett,tt|t|tL", [5, 1, 2]),
        ("E|(t|)*6L", [1] * 8),
        ("E (t t|)*2 t*2 L", [3, 2, 3]),
        ("E((t|)*2)*3L", [2, 1, 1, 1, 1, 1, 1]),
        (" E\tt*06\nL ", [8]),
    ],
)
def test_a_layout_names_the_layers_of_each_stage(layout, expected):
    stages = split(GPT, len(expected), layout=layout)
    assert sizes(stages) == expected
    assert [*nn.Sequential(*stages).parameters()] == [*GPT.parameters()] or all(
        a is b for a, b in zip(nn.Sequential(*stages).parameters(), GPT.parameters(), strict=True)
    )
    assert sizes(cut(GPT, len(expected), layout)) == expected, "a pipeline's split= takes it too"


@given(st.data())
def test_any_cut_can_be_written_as_a_layout_and_read_again(data):
    blocks = data.draw(st.integers(1, 9))
    model = tiny_gpt(width=4, blocks=blocks, heads=1, context=4)
    ends = sorted(data.draw(st.sets(st.integers(1, blocks + 1), max_size=blocks + 1)))
    bounds = [0, *ends, blocks + 2]
    wanted = [b - a for a, b in pairwise(bounds)]
    stages = split(model, len(wanted), sizes=wanted)
    layout = layout_of(stages)
    assert sizes(split(model, len(wanted), layout=layout)) == wanted
    assert sizes(split(stages, len(wanted), layout=layout)) == wanted, "cut before, cut anew"
    assert layout.replace(" ", "").count("E") == layout.count("L") == 1


def test_embedding_and_head_may_be_several_layers():
    block = lambda: nn.TransformerEncoderLayer(8, 2, 8)  # noqa: E731
    model = nn.Sequential(
        nn.Embedding(9, 8), nn.Dropout(0.0), *(block() for _ in range(4)), nn.LayerNorm(8),
        nn.Linear(8, 9),
    )  # fmt: skip
    stages = split(model, 3, layout="E t | t*2 | t L")
    assert sizes(stages) == [3, 2, 3]
    assert layout_of(stages) == "E t | t*2 | t L"


def test_a_model_without_embedding_is_all_blocks():
    model = mlp(depth=4)
    count = len(model)
    assert sizes(split(model, 2, layout=f"t | t*{count - 1}")) == [1, count - 1]
    assert layout_of(split(model, 2, sizes=[1, count - 1])) == f"t | t*{count - 1}"


def test_stages_of_a_layout_compute_what_the_model_computes():
    tokens = torch.randint(256, (2, 8))
    value = tokens
    for stage in split(GPT, 3, layout="E t | t*4 | t L"):
        value = stage(value)
    assert torch.equal(value, GPT(tokens))


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ("E t*6 | L |", "stage 2 is empty"),
        ("E || t*6 L", "stage 1 is empty"),
        ("", "letters are E"),
        ("E t*3 | t*4 L", "it has 7 t, the model 6 layers for them"),
        ("E t*6 L", "it has 1 stage, wanted are 2"),
        ("t*4 | t*4", "first layer is an embedding: it counts, as E"),
        ("E t*3 | t*4", "layer '7' is a Sequential, the blocks are Block"),
        ("t E t*2 | t*3 L", "E comes once, first"),
        ("E t*3 L | t*3", "L comes once, last"),
        ("E t*3 | t*3 x L", "letters are E"),
        ("E t*3 | t*3 m L", "multi-token prediction"),
        ("E *3 | L", "E comes once"),
        ("* 3 E | L", "out of place"),
        ("E (t*3 | t*3 L", "out of place"),
        ("E t3 | t*3 L", "out of place"),
        ("((((E t*99999)*999)*999)*999) | L", "repeats more than"),
        ("E t*3 | ... L", "letters are E"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(layout, said):
    with pytest.raises(PartitionError, match=said.replace("|", r"\|")) as error:
        split(GPT, 2, layout=layout)
    assert "layout=" in str(error.value)
    assert max(map(len, str(error.value).splitlines())) <= 90


def test_a_model_without_embedding_or_head_has_no_letter_for_them():
    with pytest.raises(PartitionError, match="no layer stands before the blocks"):
        split(nn.Sequential(*(nn.Linear(2, 2) for _ in range(4))), 1, layout="E t*3")
    with pytest.raises(PartitionError, match="no layer stands after the blocks"):
        split(nn.Sequential(*(nn.Linear(2, 2) for _ in range(4))), 1, layout="t*3 L")
    with pytest.raises(PartitionError, match="give one of them"):
        split(GPT, 2, sizes=[4, 4], layout="E t*3 | t*3 L")


def test_repeats_may_hold_the_end_of_a_stage():
    assert stage_letters("(E|t)*1 (|t*2)*3 L") == ["E", "t", "tt", "tt", "ttL"]

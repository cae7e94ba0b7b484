"""What stages hand over, taken apart, cut, described, and put together again."""

from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelab.engine.protocol import tree

DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.complex64)
KEYS = st.one_of(st.text(max_size=4), st.integers(-3, 3))


def nested(leaves):
    """Tuples, lists and dicts of leaves, nested; the lone leaf too."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(KEYS, inner, max_size=3),
        ),
        max_leaves=6,
    )


@st.composite
def tensors(draw, rows=None):
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    shape = shape if rows is None else [rows, *shape]
    dtype = draw(st.sampled_from(DTYPES))
    number = draw(st.integers(0, 100))
    tensor = (torch.arange(number, number + torch.Size(shape).numel()).reshape(shape)).to(dtype)
    if dtype.is_floating_point:
        tensor.requires_grad_(draw(st.booleans()))
    return tensor


def values(rows=None):
    """Values that hold at least one tensor; None stands where a tensor may."""
    leaves = st.one_of(tensors(rows), st.none())
    return nested(leaves).filter(lambda value: tree.tensors_of(value))


def same(a, b):
    """Equal in build, type, dtype and entries; written out, without the code under test."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return a is b is None


def leaves_of(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [leaf for part in value for leaf in leaves_of(part)]
    return [] if value is None else [value]


@given(values())
def test_put_together_undoes_take_apart(value):
    tensors, form = tree.take_apart(value)
    assert [id(t) for t in tensors] == [id(t) for t in leaves_of(value)]
    assert [id(t) for t in tree.tensors_of(value)] == [id(t) for t in tensors]
    assert [leaf.needs for leaf in form.tensors] == [t.requires_grad for t in tensors]
    assert same(tree.put_together(tensors, form), value)
    assert not same(tree.put_together([t[None] for t in tensors], form), value)


@given(values())
def test_a_form_survives_its_header(value):
    form = tree.take_apart(value)[1]
    header = tree.encode(form)
    assert (header.dtype, header.shape) == (torch.uint8, (tree.HEADER_BYTES,))
    assert tree.decode(header) == form
    assert hash(tree.decode(header)) == hash(form)
    assert same(tree.put_together(tree.take_apart(value)[0], tree.decode(header)), value)


@given(values(), values())
def test_forms_are_equal_only_for_values_of_one_build(a, b):
    one, other = tree.take_apart(a)[1], tree.take_apart(b)[1]
    if one == other:
        shapes = ([t.shape for t in leaves_of(v)] for v in (a, b))
        assert next(shapes) == next(shapes)
        assert type(a) is type(b)
    assert tree.take_apart(a)[1] == one


@given(st.data())
def test_join_undoes_cut(data):
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    value = data.draw(values(sum(sizes)))
    parts = tree.cut(value, sizes)
    assert [len(leaves_of(part)[0]) for part in parts] == sizes
    assert all(
        len(leaf) == size
        for part, size in zip(parts, sizes, strict=True)
        for leaf in leaves_of(part)
    )
    assert same(tree.join(parts), value)
    whole = {leaf.untyped_storage().data_ptr() for leaf in leaves_of(value)}
    assert {t.untyped_storage().data_ptr() for part in parts for t in leaves_of(part)} <= whole


def changed(value, function):
    """The same value, each tensor changed."""
    if isinstance(value, dict):
        return {key: changed(part, function) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(changed(part, function) for part in value)
    return value if value is None else function(value)


@given(values(3), st.integers(1, 9))
def test_a_signature_knows_all_but_the_rows(value, rows):
    longer = changed(value, lambda t: t.detach().new_zeros(rows, *t.shape[1:]))
    plain = changed(value, lambda t: t.detach())
    assert tree.signature(longer) == tree.signature(plain)
    assert tree.signature((plain,)) != tree.signature(plain)
    for change in (lambda t: t[..., None], lambda t: t.to(torch.complex128)):
        assert tree.signature(changed(plain, change)) != tree.signature(plain)


def test_a_signature_knows_what_is_none():
    x = torch.zeros(3)
    builds = (
        {"a": x, "b": None},
        {"a": None, "b": x},
        {"c": x, "b": None},
        (x, None),
        (None, x),
        x,
    )
    assert len({tree.signature(build) for build in builds}) == len(builds)


class Named(NamedTuple):
    x: torch.Tensor


def test_what_cannot_travel_is_refused_in_words():
    x = torch.zeros(2)
    for value, words in (
        ((x, "word"), "a str stands where"),
        ({"x": x, "n": 3}, "a int stands where"),
        ((None, []), "no tensor at all stands where"),
        (3.0, "a float stands where"),
    ):
        with pytest.raises(TypeError, match=words):
            tree.take_apart(value)
    for value, words in (
        (Named(x), "another rank cannot make again .*Named"),
        ({(1, 2): x}, r"another rank cannot make again \(its keys\)"),
        ([x] * 300, "300 tensors in a nest too deep to describe in 4096 bytes"),
    ):
        with pytest.raises(TypeError, match=words):
            tree.encode(tree.take_apart(value)[1])

"""What stages hand over, flattened, cut, described in a header, and unflattened again."""

import threading
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelab.action import Action, Kind
from pipelab.engine.protocol.commands import Run
from pipelab.engine.transport import header
from pipelab.engine.transport.backends import Tagged
from pipelab.engine.transport.p2p import GroupMessages
from pipelab.partition import tree

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
def test_unflatten_undoes_flatten(value):
    flat = tree.flatten(value)
    assert [id(t) for t in flat.tensors] == [id(t) for t in leaves_of(value)]
    assert [id(t) for t in tree.tensors_of(value)] == [id(t) for t in flat.tensors]
    assert [leaf.needs for leaf in flat.form.tensors] == [t.requires_grad for t in flat.tensors]
    assert same(flat.unflatten(), value)
    assert not same(flat.map(lambda t: t[None]).unflatten(), value)


@given(values())
def test_a_form_survives_its_header(value):
    form = tree.flatten(value).form
    first, *rest = header.pieces(form)
    assert (first.dtype, first.shape) == (torch.uint8, (header.HEADER_BYTES,))
    assert header.rest_bytes(first) == sum(map(len, rest))
    found = header.form_in(first, *rest)
    assert found == form
    assert hash(found) == hash(form)
    assert same(tree.Flat(tree.flatten(value).tensors, found).unflatten(), value)


@given(values(), values())
def test_forms_are_equal_only_for_values_of_one_build(a, b):
    one, other = tree.flatten(a).form, tree.flatten(b).form
    if one == other:
        shapes = ([t.shape for t in leaves_of(v)] for v in (a, b))
        assert next(shapes) == next(shapes)
        assert type(a) is type(b)
    assert tree.flatten(a).form == one


@given(st.data())
def test_join_undoes_cut(data):
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    value = data.draw(values(sum(sizes)))
    flats = tree.flatten(value).cut(sizes)
    parts = [flat.unflatten() for flat in flats]
    assert all(
        flat.form == tree.flatten(part).form for flat, part in zip(flats, parts, strict=True)
    )
    assert [len(leaves_of(part)[0]) for part in parts] == sizes
    assert all(
        len(leaf) == size
        for part, size in zip(parts, sizes, strict=True)
        for leaf in leaves_of(part)
    )
    assert same(tree.join(flats).unflatten(), value)
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
    assert tree.flatten(longer).signature == tree.flatten(plain).signature
    assert tree.flatten((plain,)).signature != tree.flatten(plain).signature
    for change in (lambda t: t[..., None], lambda t: t.to(torch.complex128)):
        assert tree.flatten(changed(plain, change)).signature != tree.flatten(plain).signature


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
    assert len({tree.flatten(build).signature for build in builds}) == len(builds)


class Named(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor | None = None

    def total(self):
        """A method, so that its class is larger than the first piece of a header."""
        return sum(part.sum() for part in self if part is not None)


def test_named_tuples_and_keys_that_are_no_words_survive():
    x = torch.zeros(2)
    here = type("Here", (Named,), {"__module__": "__main__"})  # a class of a notebook's cell
    for value in (Named(x), {(1, 2): x}, [here(x, x), Named(x, x)]):
        flat = tree.flatten(value)
        assert type(flat.unflatten()) is type(value)
        found = header.form_in(*header.pieces(flat.form))
        assert found == flat.form
        again = tree.Flat(flat.tensors, found).unflatten()
        assert type(again) is type(value) and tree.flatten(again).form == flat.form
    inner = tree.Flat(flat.tensors, found).unflatten()[0]
    assert type(inner) is here and inner.total() == 0.0


def test_a_form_that_is_larger_than_its_first_piece_arrives():
    form = tree.flatten([torch.zeros(1, n) for n in range(900)]).form
    first, rest = header.pieces(form)
    assert header.rest_bytes(first) == len(rest) > 0
    assert header.form_in(first, rest) == form


class Forgets:
    def send(self, tensors, peer, tag):
        return None


@pytest.mark.parametrize("stamped", [False, True])
def test_a_message_has_at_most_62_tensors(stamped):
    gloo, x = Tagged(Forgets(), torch.device("cpu")), torch.zeros(2)
    messages = GroupMessages(gloo, gloo, num_stages=2, timeout=1.0)
    messages.begin(Run(True, None, None, (2,), (1.0,), ()), stamped)
    messages.send(Action(0, Kind.SEND_F, 0), tree.flatten([x] * 62), 1, 2, 0.0)
    with pytest.raises(ValueError, match="300 tensors in one message: hand over at most 62"):
        messages.send(Action(0, Kind.SEND_F, 1), tree.flatten([x] * 300), 1, 3, 0.0)


def test_what_cannot_travel_is_refused_in_words():
    x = torch.zeros(2)
    for value, words in (
        ((x, "word"), "a str where a tensor is expected"),
        ({"x": x, "n": 3}, "a int where a tensor is expected"),
        ((None, []), "no tensor at all where a tensor"),
        (3.0, "a float where a tensor is expected"),
    ):
        with pytest.raises(TypeError, match=words):
            tree.flatten(value)
    keys = {threading.Lock(): x}
    with pytest.raises(TypeError, match="a nest that cannot be sent to another rank"):
        header.pieces(tree.flatten(keys).form)

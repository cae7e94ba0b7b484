"""Lesson 5, the same gradient: how those of microbatches and replicas are combined."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from pipelab.lessons.answer_process import Function
from pipelab.lessons.chapters import Chapter
from pipelab.lessons.chapters.ch05_draws import MICROBATCHES, SHARES, Part, mean_over_rows
from pipelab.lessons.chapters.ch05_questions import QUESTIONS
from pipelab.lessons.comparing import NUMBER, ask, of_few_bits, rounding
from pipelab.lessons.exercise import Cases, Exercise, each
from pipelab.lessons.experiment import LOSS, experiment, seeded, start
from pipelab.lessons.results import Result, Shown
from pipelab.lessons.written import short
from pipelab.schedules import gpipe

Gradients = dict[str, Tensor]

_COMBINE = "a function combine(grads, sizes): one dict of gradients, as each of grads is"
_WEIGHTS = "a function weights(shares): for each replica a list of weights"
_A_ROW_EACH = "for each replica a list of weights, one for each of its microbatches"
_CLOSE = 1e-5  # of a gradient's largest entry: sums in another order differ by rounding
_SAME_DIRECTION = 1e-4  # of its length: what rounding may turn a gradient by


class Odd(nn.Module):
    """A model with all that makes gradients special: (rows, 6) -> (rows, 4).

    ``tied`` is used twice, ``frozen`` needs no gradient, ``unused`` gets none, and ``rare`` gets
    one only from rows whose first feature is above 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tied = nn.Parameter(torch.randn(6, 6) / 3)
        self.frozen = nn.Parameter(torch.randn(6), requires_grad=False)
        self.unused = nn.Parameter(torch.randn(6))
        self.rare = nn.Parameter(torch.randn(6))
        self.out = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, 6) -> (rows, 4)."""
        hidden = torch.tanh(x @ self.tied) @ self.tied.T + self.frozen
        special = x[:, :1] > 1.0
        if special.any():
            hidden = hidden + special * self.rare
        output: Tensor = self.out(hidden)
        return output


def _data(rows: int) -> tuple[Odd, Tensor, Tensor]:
    """Only the first row is one that ``rare`` reacts to."""
    with seeded(3):
        model = Odd()
        inputs = torch.rand(rows, 6)
        inputs[0, 0] = 1.5
        return model, inputs, torch.randint(4, (rows,))


def _gradients(model: nn.Module, inputs: Tensor, targets: Tensor) -> Gradients:
    """Of the mean loss over these rows, in this process; parameters without any are left out."""
    model.zero_grad(set_to_none=True)
    LOSS(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
    named = model.named_parameters()
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


@cache
def _parts(sizes: tuple[int, ...]) -> tuple[list[Gradients], Gradients]:
    """The gradients of each microbatch by itself, and those of the whole batch."""
    model, inputs, targets = _data(sum(sizes))
    cuts = pairwise(accumulate(sizes, initial=0))
    parts = [_gradients(model, inputs[a:b], targets[a:b]) for a, b in cuts]
    return parts, _gradients(model, inputs, targets)


def _compare_gradients(name: str, expected: Gradients, got: Gradients, hint: str) -> Result:
    """One row: all close, or the parameter that is furthest off, as a factor."""
    ask(got, dict, "one dict, from each parameter's name to its gradient")
    want = f"all {len(expected)} gradients as in one process"
    if set(got) != set(expected):
        missing = sorted(set(expected) ^ set(got))
        return Result(name, want, f"{missing[0]} is missing, or should not be there", False, hint)
    for key, right in expected.items():
        value = torch.as_tensor(got[key])  # arrays of no dimension come as numbers
        if value.shape != right.shape:
            shapes = f"{tuple(value.shape)}, not {tuple(right.shape)}"
            return Result(name, want, f"{key} has the shape {shapes}", False, hint)
        few_bits = 2 * torch.finfo(value.dtype).eps if value.is_floating_point() else 0.0
        value = value.double()
        if not bool((value - right).abs().max() <= max(_CLOSE, few_bits) * right.abs().max()):
            return Result(name, want, f"{key}: {_off(value, right.double())}", False, hint)
    return Result(name, want, f"all {len(expected)} close", True, hint)


def _off(value: torch.Tensor, right: torch.Tensor) -> str:
    """How a gradient differs from the right one: by a factor alone, or in its direction too."""
    factor = float(value.norm() / right.norm())
    if float((value - factor * right).norm()) <= _SAME_DIRECTION * float(value.norm()):
        return f"{factor:.4g} times the right one"
    far = float((value - right).norm() / right.norm())
    return f"not the right direction; the difference is {100 * far:.2g} % of its length"


@cache
def _engine_gradients(sizes: tuple[int, ...]) -> tuple[list[Gradients], Gradients]:
    """The same on four real ranks: each microbatch by itself, and the batch in m microbatches."""
    model, inputs, targets = experiment(sum(sizes), width=16, depth=4)
    parts = []
    with start(model, gpipe(4, 1)) as pipeline:
        for a, b in pairwise(accumulate(sizes, initial=0)):
            pipeline.step(inputs[a:b], targets[a:b])
            parts.append(pipeline.gradients())
    with start(model, gpipe(4, len(sizes))) as pipeline:
        pipeline.step(inputs, targets)
        return parts, pipeline.gradients()


# ------------------------------------------------------------------------------ 05.1, combine


def _judge_combine(function: Function, seed: int) -> Iterator[Result | Shown]:
    batches = {
        "4 equal microbatches": [5, 5, 5, 5],
        "a ragged last microbatch": [6, 6, 6, 2],
        "a single microbatch": [7],
        "2 replicas with 3 and 2 microbatches": [4, 4, 3, 5, 5],
        "microbatches of one row": [1, 1, 1],
    }
    made = {name: _parts(tuple(sizes)) for name, sizes in batches.items()}
    real = "recorded on 4 ranks, ragged"
    batches[real] = [6, 6, 5]
    made[real] = _engine_gradients(tuple(batches[real]))
    cases: Cases = {name: (made[name][0], sizes) for name, sizes in batches.items()}

    def compare(name: str, got: Gradients, *_: object) -> Result:
        hint = (
            "each of grads belongs to the *mean* of its own rows; how much should a row count? "
            "And a microbatch that does not use a parameter leaves it out"
        )
        return _compare_gradients(name, made[name][1], got, hint)

    def drawn(name: str, got: Gradients, parts: list[Part]) -> Result:
        return _compare_gradients(name, mean_over_rows(parts), got, "")

    yield from each(function, cases, compare, replace(MICROBATCHES, compare=drawn), seed)


# ------------------------------------------------------------------------------ 05.2, weights


def _judge_weights(function: Function, seed: int) -> Iterator[Result | Shown]:
    cases: Cases = {
        "one replica, equal": ([[4, 4, 4]],),
        "one replica, ragged": ([[4, 4, 1]],),
        "a single microbatch": ([[5]],),
        "two equal replicas": ([[3, 3], [3, 3]],),
        "two replicas of different size": ([[4, 4], [3, 2]],),
        "three replicas, one with a single microbatch": ([[4, 4], [3], [2, 2, 1]],),
    }
    yield from each(
        function, cases, _compare_weights, replace(SHARES, compare=_compare_share), seed
    )


def _compare_weights(name: str, value: list[list[float]], shares: list[list[int]]) -> Result:
    parts, whole = _parts(tuple(size for share in shares for size in share))
    ask(value, [[NUMBER]], _A_ROW_EACH)
    if [len(row) for row in value] != [len(share) for share in shares]:
        hint = "one weight per microbatch"
        return Result(name, f"weights for {shares}", short(value), False, hint)
    rest = list(parts)
    replicas = []
    for row, right in zip(value, _right_weights(shares), strict=True):
        weights = (w if of_few_bits(w, got) else got for got, w in zip(row, right, strict=True))
        replicas.append(_add_up([(w, rest.pop(0)) for w in weights]))
    averaged = _add_up([(1 / len(replicas), replica) for replica in replicas])
    hint = "after your weights come an addition in each replica and a *mean* over the replicas"
    return _compare_gradients(name, whole, averaged, hint)


def _compare_share(name: str, value: list[list[float]], shares: list[list[int]]) -> Result:
    """Of each microbatch alone: its rows have the gradient 1, all others 0, and the mean of all."""
    ask(value, [[NUMBER]], _A_ROW_EACH)
    if [len(row) for row in value] != [len(share) for share in shares]:
        return Result(name, f"one weight for each of {shares}", short(value), False)
    right = _right_weights(shares)
    close = all(
        abs(got - want) <= _CLOSE * want or of_few_bits(want, got)
        for row, wanted in zip(value, right, strict=True)
        for got, want in zip(row, wanted, strict=True)
    )
    note = rounding(right, value)
    return Result(name, short(right), short(value), close, note="" if close else note)


def _right_weights(shares: list[list[int]]) -> list[list[float]]:
    rows = sum(map(sum, shares))
    return [[len(shares) * (sum([1.0] * size) / rows) for size in share] for share in shares]


def _add_up(terms: Sequence[tuple[float, Gradients]]) -> Gradients:
    total: Gradients = {}
    for weight, gradients in terms:
        for name, value in gradients.items():
            total[name] = total.get(name, torch.zeros_like(value)) + weight * value
    return total


CHAPTER = Chapter(
    {
        "05.1": Exercise(
            "combine the gradients",
            _COMBINE,
            _judge_combine,
            (
                "A mean over n rows is a sum divided by n. So what do you get if you multiply a "
                "microbatch's gradient by its number of rows?",
                "Turn each mean back into a sum, add up the sums, divide once by all rows.",
                "Go through all names that occur in *any* of the dicts; if a microbatch has "
                "no such gradient, it adds nothing, but its rows still count in the division.",
            ),
            MICROBATCHES,
        ),
        "05.2": Exercise(
            "weights with replicas",
            _WEIGHTS,
            _judge_weights,
            (
                "With one replica, a microbatch's weight is its share of all rows.",
                "With more replicas: all rows means the rows of all replicas, not only its own.",
                "The mean over the replicas divides by their number; the weight has to correct "
                "for that.",
            ),
            SHARES,
        ),
    },
    QUESTIONS,
)

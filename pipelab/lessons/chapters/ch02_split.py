"""Lesson 2, split the model: which bytes shrink, cut points, and a budget that decides."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from pipelab.engine import Pipeline
from pipelab.lessons.answer_process import Function
from pipelab.lessons.chapters import Chapter
from pipelab.lessons.chapters.ch02_bytes import BYTES
from pipelab.lessons.chapters.ch02_draws import CUTS, largest
from pipelab.lessons.chapters.ch02_questions import QUESTIONS
from pipelab.lessons.comparing import NUMBER, ask, of_few_bits
from pipelab.lessons.exercise import Cases, Exercise, each, equal
from pipelab.lessons.experiment import LOSS, Optimizer, seeded
from pipelab.lessons.results import Result, Shown
from pipelab.lessons.written import short
from pipelab.partition import balance
from pipelab.schedules import gpipe
from pipelab.words import number

_SPLIT = "a function split(costs, p): the number of layers of each rank, such as [2, 2, 4]"
_BYTES = "a function rank_bytes(parameters, sizes, optimizer): bytes for each rank"
_WIDTHS = (64, 256, 256, 64, 64, 64, 256, 10)  # seven layers, very unequal
_ROWS = 32
_OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": partial(torch.optim.SGD, lr=0.1),
    "momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "adam": partial(torch.optim.Adam, lr=0.001),
}


def uneven_model() -> nn.Sequential:
    """Seven linear layers whose sizes differ by a factor of 26: (rows, 64) -> (rows, 10)."""
    with seeded():
        return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(_WIDTHS)))


def parameter_counts(model: nn.Sequential) -> list[int]:
    """How many parameters each layer has."""
    return [sum(p.numel() for p in layer.parameters()) for layer in model]


def _stages(sizes: Sequence[int]) -> list[nn.Module]:
    layers = [*uneven_model()]
    cuts = pairwise(accumulate(sizes, initial=0))
    return [nn.Sequential(*layers[a:b]) for a, b in cuts]


def _batch() -> tuple[Tensor, Tensor]:
    with seeded(1):
        return torch.randn(_ROWS, _WIDTHS[0]), torch.randint(_WIDTHS[-1], (_ROWS,))


# -------------------------------------------------------------------------------- 02.1, the cut


def _judge_split(function: Function, seed: int) -> Iterator[Result | Shown]:
    model = uneven_model()
    ours = [float(count) for count in parameter_counts(model)]
    cases: Cases = {
        "8 equal layers, 4 ranks": ([1.0] * 8, 4),
        "7 equal layers, 3 ranks": ([1.0] * 7, 3),
        "a heavy layer at the end": ([1.0, 1.0, 1.0, 1.0, 4.0], 2),
        "heavy layers everywhere": ([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0], 3),
        "one rank": ([2.0, 3.0, 1.0], 1),
        "as many ranks as layers": ([5.0, 1.0, 2.0], 3),
        "a real model, 3 ranks": (ours, 3),
    }
    tried = yield from each(function, cases, _compare_cut, CUTS, seed)
    if tried.right:
        sizes = tried.values[-1]
        assert isinstance(sizes, list)
        yield from _train_under_budget(model, [int(size) for size in sizes])


def _compare_cut(name: str, sizes: list[int], costs: list[float], p: int) -> Result:
    ask(sizes, [NUMBER], "a list: how many layers each rank gets")
    best = largest(costs, balance(costs, p))
    parts = f"{number(p, 'stage')} of all {number(len(costs), 'layer')}"
    expected = f"{parts}, the largest costs {best:g}"
    if (
        any(size % 1 for size in sizes)
        or len(sizes) != p
        or sum(sizes) != len(costs)
        or min(sizes) < 1
    ):
        hint = "every layer once: p numbers, each at least 1, that add up to the number of layers"
        return Result(name, expected, short(sizes), False, hint)
    sizes = [int(size) for size in sizes]
    most = largest(costs, sizes)
    hint = "a stage's cost is the sum of its layers' costs; make the largest of these small"
    got = f"{sizes}, the largest costs {most:g}"
    return Result(name, expected, got, most <= best * (1 + 1e-9), hint)


def _train_under_budget(model: nn.Sequential, sizes: list[int]) -> Iterator[Result]:
    """The learner's cut on real ranks: the same output, and three steps within a budget."""
    counts = [float(count) for count in parameter_counts(model)]
    inputs, targets = _batch()
    budget = round(18 * largest(counts, balance(counts, len(sizes))))  # Adam: 16, and activations
    with Pipeline(
        _stages(sizes),
        gpipe(len(sizes), 1),
        loss=LOSS,
        optimizer=_OPTIMIZERS["adam"],
        memory_budget=budget,
    ) as pipeline:
        with torch.no_grad():
            same = torch.equal(pipeline.predict(inputs), model(inputs))
        yield equal("output of the cut model, bit for bit", True, same)
        losses = [pipeline.step(inputs, targets).loss for _ in range(3)]
    yield equal(f"trains in {budget:,} bytes a rank", True, losses[-1] < losses[0])


# ------------------------------------------------------------------------------ 02.2, the bytes


def _judge_bytes(function: Function, seed: int) -> Iterator[Result | Shown]:
    counts = parameter_counts(uneven_model())
    cases: Cases = {
        "SGD, one rank": (counts, [7], "sgd"),
        "SGD, three ranks": (counts, [1, 2, 4], "sgd"),
        "SGD with momentum, three ranks": (counts, [3, 2, 2], "momentum"),
        "Adam, three ranks": (counts, [1, 1, 5], "adam"),
        "Adam, seven ranks": (counts, [1] * 7, "adam"),
    }
    yield from each(function, cases, _compare_bytes, replace(BYTES, compare=_compare_drawn), seed)


def _compare_bytes(
    name: str, value: list[float], counts: list[int], sizes: list[int], optimizer: str
) -> Result:
    recorded = _recorded_bytes(tuple(sizes), optimizer)
    near = [(0.002 if optimizer == "adam" else 0) * b for b in recorded]
    return _close(name, recorded, value, near, "recorded ")


def _compare_drawn(
    name: str, value: list[float], layers: list[list[int]], optimizer: str
) -> Result:
    """As torch's optimizers keep them, on layers that take no memory, so that all sizes work."""
    near = [8.0 * len(rank) if optimizer == "adam" else 0.0 for rank in layers]  # its steps
    return _close(name, [_kept_bytes(tuple(rank), optimizer) for rank in layers], value, near)


def _close(
    name: str, expected: list[int], got: list[float], near: list[float], what: str = ""
) -> Result:
    ask(got, [NUMBER], "a list: the bytes of each rank")
    same = len(got) == len(expected) and all(
        abs(a - b) <= most or of_few_bits(b, a)
        for a, b, most in zip(got, expected, near, strict=True)
    )
    hint = (
        "4 bytes for each number; a parameter, its gradient, and what this optimizer remembers of "
        "it. Which of these does a rank have for a layer that it does not hold?"
    )
    return Result(name, f"{what}{expected}", short(got), same, hint)


@cache
def _kept_bytes(counts: tuple[int, ...], optimizer: str) -> int:
    layers = [nn.Parameter(torch.empty(n, device="meta")) for n in counts if n]
    for layer in layers:
        layer.grad = torch.empty_like(layer)
    state: list[Tensor] = []
    if layers:
        keeper = _OPTIMIZERS[optimizer](layers)
        keeper.step()
        state = [t for kept in keeper.state.values() for t in kept.values() if t is not None]
    held = [*layers, *layers, *(t for t in state if t.dim())]  # without the counts of steps
    return sum(t.numel() * t.element_size() for t in held)


@cache
def _recorded_bytes(sizes: tuple[int, ...], optimizer: str) -> list[int]:
    """What real ranks hold between two steps: parameters, gradients, optimizer state."""
    with Pipeline(
        _stages(sizes),
        gpipe(len(sizes), 1),
        loss=LOSS,
        optimizer=_OPTIMIZERS[optimizer],
    ) as pipeline:
        return [sum(memory) for memory in pipeline.step(*_batch()).trace.memory]


CHAPTER = Chapter(
    {
        "02.1": Exercise(
            "cut the model",
            _SPLIT,
            _judge_split,
            (
                "Suppose you know the cost that no rank may exceed. How would you then "
                "cut, walking along the layers from the left?",
                "With a limit given: fill a stage until the next layer would exceed it, then "
                "begin a new one. If that needs more than p stages, the limit is too small. "
                "Remember that each of the p stages needs a layer.",
                "The limit is the cost of some group of neighbouring layers, so there are few "
                "candidates: or simply try all cuts, itertools.combinations(range(1, n), p - 1), "
                "and keep the one whose largest stage is smallest.",
            ),
            CUTS,
        ),
        "02.2": Exercise(
            "bytes on each rank",
            _BYTES,
            _judge_bytes,
            (
                "Compare the columns of the table that your own run printed: how many times the "
                "parameters are the gradients? And the state of Adam?",
                "Plain SGD remembers nothing. Momentum keeps one more number for each parameter, "
                "Adam two.",
                "So 4 bytes × the parameters of the rank's own layers × 2, 3 or 4.",
            ),
            BYTES,
        ),
    },
    QUESTIONS,
)

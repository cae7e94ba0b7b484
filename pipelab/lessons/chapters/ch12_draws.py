"""What is drawn for the exercises of lesson 12: machines, models and budgets; grids of ranks."""

from functools import cache
from random import Random

from pipelab.lessons.drawn import Draws, Idea, far, unlimited
from pipelab.lessons.plans import Layer, Machine, Model, Plan, memory, par, plans, seconds
from pipelab.partition import balance

__all__ = ["GRIDS", "JOBS", "fitting", "least_time"]

_RANKS = (1, 2, 3, 4, 6)
_ROWS = (4, 6, 8, 12)
_BLOCK = 0.001  # seconds of F for one row
_UNLIKE = 0.5  # of all models

# ------------------------------------------------------------------------------ 12.1, choose


def fitting(machine: Machine, model: Model, budget: float) -> list[Plan]:
    """The plans that fit."""
    return [plan for plan in plans(machine, model) if max(memory(model, plan)) <= budget]


def least_time(machine: Machine, model: Model, budget: float) -> float:
    """Seconds of the fastest plan that fits."""
    return _least_time(_key(machine, model), budget)


def _draw_job(random: Random) -> tuple[Machine, Model, int]:
    ranks, rows = random.choice((*_RANKS, 4, 4)), random.choice(_ROWS)
    start = random.choice((0.0, 0.0, 0.001, 0.004))
    latency = random.choice((0.0, 0.0, 0.001, 0.01))
    bandwidth = random.choice((2e6, 1e8, 1e8, 1e9))
    machine = Machine(ranks, start, latency, bandwidth)
    number = random.randint(max(ranks, 3), 8)
    layers = _unlike(random, number) if random.random() < _UNLIKE else _blocks(random, number)
    model = Model(rows, layers)
    needs = sorted(max(memory(model, plan)) for plan in plans(machine, model))
    share = random.choice((0.0, 0.0, 0.05, 0.1, 0.2, 0.4, 1.0, 1.0))
    return machine, model, int(needs[int(share * (len(needs) - 1))] * 1.02)


def _blocks(random: Random, number: int) -> list[Layer]:
    """Layers that are alike but for a head and an embedding, of some models."""
    weights = random.choice((20_000, 200_000))
    layers = [Layer(_BLOCK, weights, 50_000, 4_000) for _ in range(number)]
    if random.random() < 0.4:  # a head
        layers[-1] = Layer(_BLOCK * random.choice((2, 3)), weights, 50_000, 16_000)
    if random.random() < 0.4:  # an embedding
        layers[0] = Layer(_BLOCK, 6 * weights, 1_000, 4_000)
    return layers


def _unlike(random: Random, number: int) -> list[Layer]:
    """Layers that have nothing in common: a cut by other bytes than those that count is another."""
    weights, kept = (20_000, 100_000, 500_000), (1_000, 40_000, 160_000)
    return [
        Layer(_BLOCK * random.choice((1, 1, 2)), random.choice(weights), random.choice(kept), 4_000)
        for _ in range(number)
    ]


def _key(machine: Machine, model: Model) -> tuple[Machine, int, tuple[Layer, ...]]:
    return machine, model.rows, tuple(model.layers)


@cache
def _least_time(key: tuple[Machine, int, tuple[Layer, ...]], budget: float) -> float:
    machine, rows, layers = key
    model = Model(rows, [*layers])
    return seconds(machine, model, par(machine, model, budget))


def _is_tight(machine: Machine, model: Model, budget: float) -> bool:
    """Whether less than half of the plans fit: seldom the fastest one."""
    return 2 * len(fitting(machine, model, budget)) < sum(1 for _ in plans(machine, model))


def _has_unequal_layers(machine: Machine, model: Model, budget: float) -> bool:
    return len({layer.seconds for layer in model.layers}) > 1


def _needs_cut_by_bytes(machine: Machine, model: Model, budget: float) -> bool:
    """Whether the cut that is even in seconds fits nowhere."""
    costs = [layer.seconds for layer in model.layers]
    found = fitting(machine, model, budget)
    return bool(found) and all(plan.sizes != balance(costs, len(plan.sizes)) for plan in found)


def _is_job(machine: Machine, model: Model, budget: float) -> bool:
    layers = model.layers
    good = machine.ranks in _RANKS and 1 <= model.rows <= 16 and 1 <= len(layers) <= 8
    good = good and machine.start >= 0 <= machine.latency and machine.bandwidth >= 1e6
    good = good and all(layer.seconds > 0 and min(layer[1:]) >= 0 for layer in layers)
    return good and bool(fitting(machine, model, budget))


JOBS = Draws(
    _draw_job,
    (
        Idea(
            "one rank",
            "nothing is cut: schedule and microbatches remain, and there is no message",
            lambda machine, model, budget: machine.ranks == 1,
        ),
        unlimited("more than four ranks", lambda machine, model, budget: machine.ranks > 4),
        Idea(
            "a budget in which the cut that is even in seconds fits nowhere",
            "cut by bytes too: balance() takes any numbers",
            _needs_cut_by_bytes,
        ),
        Idea(
            "slow links",
            "the average over replicas travels, too: seconds() counts it",
            lambda machine, model, budget: machine.bandwidth <= 1e7 and machine.ranks > 1,
        ),
        Idea(
            "actions that cost a start, however few their rows are",
            "more microbatches are not always better: try all that divide the rows",
            lambda machine, model, budget: machine.start > 0,
        ),
        Idea(
            "far links",
            "a message takes as long as some actions do: try all schedules",
            lambda machine, model, budget: machine.latency >= 0.01 and machine.ranks > 1,
        ),
        Idea(
            "a layer that takes longer than the others",
            "stages of equally many layers are not equally long: balance() cuts by seconds",
            _has_unequal_layers,
        ),
        Idea(
            "a tight budget, into which less than half of the plans fit",
            "first drop the plans whose fullest rank holds more than the budget",
            _is_tight,
        ),
        Idea("every job", "try each replicas, cut, schedule and number of microbatches"),
    ),
    allowed=_is_job,
    explains=True,
)

# -------------------------------------------------------------------------------- 12.2, locate


_MOST_PLACES = 150  # of a grid: each rank is asked for its own, twice


def _draw_grid(random: Random) -> tuple[int, list[int]]:
    p = random.choice((1, 2, 3, 4, 5, 6, 7, far(random, 8, 24)))
    sizes = [random.randint(1, random.choice((1, 2, 5, 40))) for _ in range(p)]
    replicas = random.choice((1, 2, 3, 4, 5, p, far(random, 6, 24)))
    return min(replicas, _MOST_PLACES // p), sizes


GRIDS = Draws(
    _draw_grid,
    (
        Idea("a single rank", "it is both of its groups", lambda r, s: r * len(s) == 1),
        Idea(
            "one pipeline",
            "each dp group has one rank: there is nobody to average with",
            lambda replicas, sizes: replicas == 1,
        ),
        Idea(
            "one stage in each replica",
            "each rank is a pipeline by itself, and all are one dp group",
            lambda replicas, sizes: len(sizes) == 1,
        ),
        unlimited("more than ten replicas", lambda replicas, sizes: replicas > 10),
        unlimited("more than ten stages", lambda replicas, sizes: len(sizes) > 10),
        Idea(
            "as many replicas as stages",
            "which of the two numbers do you divide by? Here they are alike, elsewhere not",
            lambda replicas, sizes: replicas == len(sizes) > 1,
        ),
        Idea(
            "more stages than replicas",
            "divide a rank by the number of stages to find its row, not by that of replicas",
            lambda replicas, sizes: len(sizes) > replicas > 1,
        ),
        Idea(
            "more than two replicas",
            "a dp group has all ranks with the same stage, one in each replica",
            lambda replicas, sizes: replicas > 2,
        ),
        Idea(
            "stages with unequal numbers of layers",
            "a stage begins where the one before it ends: add up the sizes",
            lambda replicas, sizes: len(set(sizes)) > 1,
        ),
        Idea("every grid", "draw the grid, a row for each replica, and number its places"),
    ),
    allowed=lambda replicas, sizes: replicas >= 1 and len(sizes) >= 1 and min(sizes) >= 1,
    explains=True,
)

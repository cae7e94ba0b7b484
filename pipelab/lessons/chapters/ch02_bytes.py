"""What the second check of lesson 2 draws: layers of which bytes are counted."""

from random import Random

from pipelab.lessons.drawn import Draws, Idea, far

__all__ = ["BYTES"]


def _draw_bytes(random: Random) -> tuple[list[list[int]], str]:
    """The layers of each rank by their number of parameters, and the optimizer."""
    grid = random.choice(
        (
            *(
                [100, 650, 4160],
                [200, 0, 1000],
                [4160, 70_000],
                [3_000_000_000, 500],
                [5 * 10**12, 500],
            ),
            [far(random, 1, 10**12) for _ in range(random.choice((4, 400)))],
        )
    )
    ranks = random.choice((1, 1, 2, 3, 4, 5))
    sizes = [random.choice((1, 1, 2, 3, 4)) for _ in range(ranks)]
    match random.randrange(6):
        case 0 | 1:
            sizes = [random.choice((1, 2))] * ranks
        case 2:
            sizes = [random.choice((1, 2, 3)) for _ in range(far(random, 6, 40))]
        case 3:
            sizes[random.randrange(ranks)] = far(random, 5, 60)
    layers = [[random.choice(grid) for _ in range(size)] for size in sizes]
    if not any(map(any, layers)):
        layers[0][0] = 500
    return layers, random.choice(("sgd", "momentum", "adam"))


def _flat(layers: list[list[int]], optimizer: str) -> tuple[object, ...]:
    return [n for rank in layers for n in rank], [len(rank) for rank in layers], optimizer


BYTES = Draws(
    _draw_bytes,
    (
        Idea(
            "layers without parameters",
            "such as ReLU: they belong to a rank and add nothing",
            lambda layers, optimizer: any(
                0 in rank and any(map(any, layers[i + 1 :])) for i, rank in enumerate(layers)
            ),
        ),
        Idea(
            "layers without parameters, before others of the same rank",
            "such as ReLU: the layers behind it count all the same",
            lambda layers, optimizer: any(
                not n and any(rank[i + 1 :]) for rank in layers for i, n in enumerate(rank)
            ),
        ),
        Idea(
            "billions of parameters",
            "use Python's whole numbers, which do not overflow",
            lambda layers, optimizer: max(map(max, layers)) > 10**9,
        ),
        Idea(
            "more than five ranks",
            "one number for each of them, however many there are",
            lambda layers, optimizer: len(layers) > 5,
        ),
        Idea(
            "ranks with more than four layers",
            "add up all of them, however many there are",
            lambda layers, optimizer: max(map(len, layers)) > 4,
        ),
        Idea(
            "ranks that have two layers alike",
            "each of them counts, however many are equal",
            lambda layers, optimizer: any(
                len({*rank} - {0}) < len([*filter(None, rank)]) for rank in layers
            ),
        ),
        Idea(
            "layers that are alike, on one rank or on two",
            "a layer is known by its place, not by its number of parameters",
            lambda layers, optimizer: (
                len({n for rank in layers for n in rank if n})
                < sum(1 for rank in layers for n in rank if n)
            ),
        ),
        Idea(
            "ranks with different numbers of layers",
            "sizes says how many layers each rank holds; where do those of the next begin?",
            lambda layers, optimizer: len({*map(len, layers)}) > 1,
        ),
        Idea(
            "ranks with more than one layer",
            "add up the parameters of all layers of a rank",
            lambda layers, optimizer: max(map(len, layers)) > 1,
        ),
        Idea(
            "more than one rank, with an optimizer that keeps a state",
            "the state of a parameter is where the parameter is",
            lambda layers, optimizer: len(layers) > 1 and optimizer != "sgd",
        ),
        Idea(
            "more than one rank",
            "a rank holds nothing of the layers of others",
            lambda layers, optimizer: len(layers) > 1,
        ),
        Idea(
            "plain SGD",
            "parameters and gradients, and what does it remember?",
            lambda layers, optimizer: optimizer == "sgd",
        ),
        Idea(
            "SGD with momentum",
            "what does it remember for each parameter from step to step?",
            lambda layers, optimizer: optimizer == "momentum",
        ),
        Idea(
            "Adam",
            "it remembers the mean of the gradients, and of what else?",
            lambda layers, optimizer: optimizer == "adam",
        ),
        Idea(
            "optimizers that keep a state",
            "the state counts too, as many numbers as there are parameters or more",
            lambda layers, optimizer: optimizer != "sgd",
        ),
        Idea("what every rank holds", "parameters, gradients, state: 4 bytes for each number"),
    ),
    allowed=lambda layers, optimizer: (
        bool(layers) and all(layers) and min(map(min, layers)) >= 0 and max(map(max, layers)) > 0
    ),
    arguments=_flat,
)

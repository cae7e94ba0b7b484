"""What the checks of lesson 1 draw: kitchens, and relays with slow cooks and slow hand-overs."""

from collections.abc import Callable
from random import Random

from pipelab.lessons.drawn import Draws, Idea, far

__all__ = ["FOLLOW", "KITCHENS", "RELAYS"]


def _draw_kitchen(random: Random) -> tuple[int, int]:
    few = random.choice((1, 2, 3, 3, 4, 5, 6, 7, 8, 9))
    many = random.choice((10, 11, 12, far(random, 13, 60), far(random, 40, 60)))
    dishes = random.choice((1, few, 6, 6, random.randint(2, 9), few + 1, many))
    if random.random() < 0.15:
        dishes = far(random, 60, 250)
    return random.choice((few, few, few, many)), dishes


KITCHENS = Draws(
    _draw_kitchen,
    (
        Idea(
            "more than ten cooks, and a hundred dishes and more",
            "a token has room for all digits: that of cook 10 and dish 100 is 10F100",
            lambda cooks, dishes: cooks > 10 and dishes > 100,
        ),
        Idea(
            "one cook alone",
            "nobody stands before this cook: no slot is empty",
            lambda cooks, dishes: cooks == 1,
        ),
        Idea(
            "a single dish",
            "it still passes all cooks, one slot each",
            lambda cooks, dishes: dishes == 1 < cooks,
        ),
        Idea(
            "fewer dishes than cooks",
            "the last cook begins when the first has long finished",
            lambda cooks, dishes: 1 < dishes < cooks,
        ),
        Idea(
            "more dishes than cooks",
            "every cook handles all dishes, however many there are",
            lambda cooks, dishes: dishes > cooks,
        ),
        Idea(
            "a hundred dishes and more",
            "their numbers have three digits, and there is no largest one",
            lambda cooks, dishes: dishes > 99,
        ),
        Idea(
            "more than twenty cooks",
            "one row for each cook, however many there are",
            lambda cooks, dishes: cooks > 20,
        ),
        Idea(
            "as many dishes as cooks",
            "the rows are lists for cooks, not for dishes: which of the two numbers do you count?",
            lambda cooks, dishes: cooks == dishes > 1,
        ),
        Idea(
            "ten dishes and more",
            "their numbers have two digits: the dish after 0F9 is 0F10",
            lambda cooks, dishes: dishes > 10,
        ),
        Idea(
            "ten cooks and more",
            "their numbers have two digits: the cook after 9 is 10",
            lambda cooks, dishes: cooks > 10,
        ),
        Idea(
            "another number of cooks than three",
            "one row for each cook, however many there are",
            lambda cooks, dishes: cooks != 3,
        ),
        Idea(
            "another number of dishes than six",
            "every cook handles all dishes, however many there are",
            lambda cooks, dishes: dishes != 6,
        ),
        Idea(
            "two cooks and more, and two dishes and more",
            "all cooks handle the dishes in the same order, each as soon as it is there",
            lambda cooks, dishes: cooks > 1 and dishes > 1,
        ),
        Idea(
            "two cooks and more, who pass dishes along",
            "in which slot is a dish with the cook before? Begin it in the next",
            lambda cooks, dishes: cooks > 1,
        ),
        Idea("every kitchen", "one list for each cook, one token for each dish in it"),
    ),
    allowed=lambda cooks, dishes: cooks >= 1 and dishes >= 1,
)


_FLOAT16 = 65504  # where such numbers end: a right answer may count in them
_GRIDS = (
    *([1.0, 2.0, 3.0, 5.0], [0.25, 0.5, 1.5, 2.75], [0.5, 0.75, 9.5, 12.0, 110.0]),
    [0.0625, 0.1875, 1.6875, 2.4375, 7.3125],  # two decimal places are not enough
)


def _draw_relay(random: Random) -> tuple[list[float], int, float]:
    grid = random.choice(_GRIDS)
    cooks = random.choice((1, 2, 2, 3, 3, 4, 5, 6, 7))
    costs = [random.choice(grid) for _ in range(cooks)]
    if random.random() < 0.2:
        costs = [costs[0]] * cooks
    hand_over = random.choice((0.0, 0.0, 0.25, 0.5, 1.0, 2.0, 8.0, 0.1875, random.choice(costs)))
    dishes = random.choice((1, 2, 3, 4, cooks, cooks + 1, 7, 12, 40))
    match random.randrange(12):  # more of one of them than anybody expects
        case 0:
            few, most = random.choice(((50, 400), (300, 400)))
            dishes = far(random, few, most)  # a right answer may call itself for each
        case 1:
            few, most = random.choice(((7, 30), (25, 40)))
            costs += [random.choice(grid) for _ in range(far(random, few, most))]
        case 2:
            costs[random.randrange(cooks)] = 1.5 * far(random, 20, 1000)
        case 3:
            hand_over = 0.5 * far(random, 20, 2000)
    return costs, dishes, hand_over


def _slowest_at(place: int) -> Callable[..., bool]:
    """Whether one cook alone is the slowest, and stands first (0) or last (-1)."""

    def about(costs: list[float], dishes: int, hand_over: float) -> bool:
        others = costs[1:] if place == 0 else costs[:-1]
        return bool(others) and dishes > 1 and costs[place] > max(others)

    return about


FOLLOW = (
    "follow the first dish to the end; then ask which cook decides how fast the others follow, "
    "and for which hand-overs no cook waits"
)
_PACE_OF_ALL = "any cook can be the one who decides how fast the dishes follow each other"
RELAYS = Draws(
    _draw_relay,
    (
        Idea(
            "one cook alone, who hands nothing over",
            "between how many neighbours is a dish handed over?",
            lambda costs, dishes, hand_over: len(costs) == 1 and hand_over > 0,
        ),
        Idea(
            "a hand-over of more than ten minutes",
            "it can take as long as it likes: nothing is cut off",
            lambda costs, dishes, hand_over: hand_over > 10 and len(costs) > 1,
        ),
        Idea(
            "a hand-over that takes longer than any cook",
            "during a hand-over both cooks work on: does it slow down the dishes behind?",
            lambda costs, dishes, hand_over: hand_over > max(costs) and len(costs) > 1 < dishes,
        ),
        Idea(
            "more than one hand-over",
            "the first dish is handed over once between any two neighbours",
            lambda costs, dishes, hand_over: hand_over > 0 and len(costs) > 2,
        ),
        Idea(
            "hand-overs of a part of a minute",
            "half a minute counts as half a minute: nothing is rounded",
            lambda costs, dishes, hand_over: hand_over % 1 > 0 and len(costs) > 1,
        ),
        Idea(
            "hand-overs that take time, and more than one dish",
            "which dish's hand-overs does nobody else's work cover?",
            lambda costs, dishes, hand_over: hand_over > 0 and len(costs) > 1 < dishes,
        ),
        Idea(
            "hand-overs that take time",
            "the first dish waits for each hand-over on its way",
            lambda costs, dishes, hand_over: hand_over > 0 and len(costs) > 1,
        ),
        Idea(
            "a cook who takes more than five minutes",
            "costs have no upper limit",
            lambda costs, dishes, hand_over: max(costs) > 5 and dishes > 1,
        ),
        Idea("a slowest cook who comes first", _PACE_OF_ALL, _slowest_at(0)),
        Idea("a slowest cook who comes last", _PACE_OF_ALL, _slowest_at(-1)),
        Idea(
            "a slowest cook who is neither first nor last",
            _PACE_OF_ALL,
            lambda costs, dishes, hand_over: (
                dishes > 1 and max(costs[1:-1], default=0.0) > max(costs[0], costs[-1])
            ),
        ),
        Idea(
            "a slowest cook who is not the first",
            _PACE_OF_ALL,
            lambda costs, dishes, hand_over: dishes > 1 and costs[0] < max(costs),
        ),
        Idea(
            "cooks who are not equally fast",
            _PACE_OF_ALL,
            lambda costs, dishes, hand_over: dishes > 1 and min(costs) < max(costs),
        ),
        Idea(
            "cooks who take the same time",
            "each of them counts, however many are equal",
            lambda costs, dishes, hand_over: len(set(costs)) < len(costs),
        ),
        Idea(
            "cooks who all take less than a minute",
            "compare their times with each other alone: the slowest can take less than a minute",
            lambda costs, dishes, hand_over: max(costs) < 1 < dishes,
        ),
        Idea(
            "minutes with more than two decimal places",
            "a part of a minute counts, however small: nothing is rounded",
            lambda costs, dishes, hand_over: any(100 * t % 1 for t in (*costs, hand_over)),
        ),
        Idea(
            "minutes that are not whole",
            "half a minute counts as half a minute: nothing is rounded",
            lambda costs, dishes, hand_over: any(t % 1 for t in (*costs, hand_over)),
        ),
        Idea(
            "a slowest cook whose minutes have more digits before the point",
            "compare minutes as numbers: as texts, '9.5' comes after '12.0'",
            lambda costs, dishes, hand_over: (
                max(costs) > float(max(map(str, costs))) and dishes > 1
            ),
        ),
        Idea(
            "more than seven cooks",
            "each of them adds to the way of the first dish, however many there are",
            lambda costs, dishes, hand_over: len(costs) > 7,
        ),
        Idea(
            "more than forty dishes",
            "each of them follows at the same distance, and there is no largest number",
            lambda costs, dishes, hand_over: dishes > 40,
        ),
        Idea(
            "fewer dishes than cooks",
            "the parts of the time stay the same: nothing in them compares the two numbers",
            lambda costs, dishes, hand_over: dishes < len(costs),
        ),
        Idea(
            "more than ten dishes",
            "each of them follows at the same distance, however many there are",
            lambda costs, dishes, hand_over: dishes > 10,
        ),
        Idea(
            "a single dish",
            "nobody follows it",
            lambda costs, dishes, hand_over: dishes == 1,
        ),
        Idea(
            "more than one cook and more than one dish",
            "they work at the same time: at which distance does each further dish follow?",
            lambda costs, dishes, hand_over: len(costs) > 1 < dishes,
        ),
        Idea("the way of the first dish", FOLLOW),
    ),
    allowed=lambda costs, dishes, hand_over: (
        bool(costs)
        and min(costs) > 0
        and dishes >= 1
        and hand_over >= 0
        and sum(costs) + len(costs) * hand_over + dishes * max(costs) < _FLOAT16
    ),
    number=90,
)

"""Answers to lesson 1 that must fail, each with the result that has to say so."""


def too_long(cooks, dishes):
    """One dish after another: right, but slow."""
    slots = cooks * dishes
    plan = [[""] * slots for _ in range(cooks)]
    for d in range(dishes):
        for c in range(cooks):
            plan[c][d * cooks + c] = f"{c}F{d}"
    return plan


def all_at_once(cooks, dishes):
    """Everybody begins at once, with dishes that are not there yet."""
    return [[f"{c}F{d}" for d in range(dishes)] for c in range(cooks)]


def six_dishes_always(cooks, dishes):
    return [[""] * c + [f"{c}F{d}" for d in range(6)] for c in range(cooks)]


def three_cooks_always(cooks, dishes):
    return [[""] * c + [f"{c}F{d}" for d in range(dishes)] for c in range(3)]


def last_dish_forgotten(cooks, dishes):
    return [[""] * c + [f"{c}F{d}" for d in range(dishes - 1)] for c in range(cooks)]


def as_long_as_possible(cooks, dishes):
    while True:
        pass


def every_cook_busy(costs, dishes, hand_over):
    return sum(costs) * dishes / len(costs)


def slowest_forgotten(costs, dishes, hand_over):
    return sum(costs) + (dishes - 1) * costs[-1] + (len(costs) - 1) * hand_over


def hand_over_for_every_dish(costs, dishes, hand_over):
    return sum(costs) + (dishes - 1) * (max(costs) + hand_over) + (len(costs) - 1) * hand_over


def hand_over_behind_the_last(costs, dishes, hand_over):
    return sum(costs) + (dishes - 1) * max(costs) + len(costs) * hand_over


WRONG = {
    "01.1": [
        (too_long, "three cooks, six dishes"),
        (all_at_once, "three cooks, six dishes"),
        (six_dishes_always, "a single dish"),
        (three_cooks_always, "one cook alone"),
        (last_dish_forgotten, "three cooks, six dishes"),
        (as_long_as_possible, "three cooks, six dishes"),
    ],
    "01.2": [
        (every_cook_busy, "equal cooks"),
        (slowest_forgotten, "a slow cook in the middle"),
        (hand_over_for_every_dish, "hand-overs take time"),
        (hand_over_behind_the_last, "one cook alone"),
    ],
}

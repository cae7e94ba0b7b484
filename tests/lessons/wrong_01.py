"""Answers to lesson 1 that must fail.

``WRONG``: each with the row that has to say so. ``FORGOT``: misconceptions, each with the words in
which the verdict must name what was forgotten.
"""

import math

import numpy as np


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


def a_row_for_each_dish(cooks, dishes):
    return [[""] * d + [f"{c}F{d}" for c in range(cooks)] for d in range(dishes)]


def counted_from_one(cooks, dishes):
    return [[""] * c + [f"{c + 1}F{d + 1}" for d in range(dishes)] for c in range(cooks)]


def last_cook_begins(cooks, dishes):
    return [[""] * (cooks - 1 - c) + [f"{c}F{d}" for d in range(dishes)] for c in range(cooks)]


def two_slots_between_cooks(cooks, dishes):
    return [[""] * (2 * c) + [f"{c}F{d}" for d in range(dishes)] for c in range(cooks)]


def dish_before_cook(cooks, dishes):
    return [[""] * c + [f"{d}F{c}" for d in range(dishes)] for c in range(cooks)]


def one_digit(cooks, dishes):
    return [[""] * c + [f"{c}F{d % 10}" for d in range(dishes)] for c in range(cooks)]


def every_second_cook_in_reverse(cooks, dishes):
    order = [f"{d}" for d in range(dishes)]
    return [[""] * c + [f"{c}F{d}" for d in order[:: -1 if c % 2 else 1]] for c in range(cooks)]


def last_cook_forgotten(cooks, dishes):
    return [[""] * c + [f"{c}F{d}" for d in range(dishes)] for c in range(max(1, cooks - 1))]


def no_more_dishes_than_cooks(cooks, dishes):
    return [[""] * c + [f"{c}F{d}" for d in range(min(cooks, dishes))] for c in range(cooks)]


def lone_cook_waits(cooks, dishes):
    late = cooks == 1
    return [[""] * (c + late) + [f"{c}F{d}" for d in range(dishes)] for c in range(cooks)]


def single_dish_is_everywhere(cooks, dishes):
    return [
        [""] * (c if dishes > 1 else 0) + [f"{c}F{d}" for d in range(dishes)] for c in range(cooks)
    ]


def dots_for_no_work(cooks, dishes):
    """As lesson 0 prints them."""
    return [["·"] * c + [f"{c}F{d}" for d in range(dishes)] for c in range(cooks)]


def every_cook_busy(costs, dishes, hand_over):
    return sum(costs) * dishes / len(costs)


def slowest_forgotten(costs, dishes, hand_over):
    return sum(costs) + (dishes - 1) * costs[-1] + (len(costs) - 1) * hand_over


def hand_over_for_every_dish(costs, dishes, hand_over):
    return sum(costs) + (dishes - 1) * (max(costs) + hand_over) + (len(costs) - 1) * hand_over


def hand_over_behind_the_last(costs, dishes, hand_over):
    return sum(costs) + (dishes - 1) * max(costs) + len(costs) * hand_over


def _minutes(costs, hand_over):
    return sum(costs) + (len(costs) - 1) * hand_over


def first_cook_never_waits(costs, dishes, hand_over):
    """So the first is not asked whether it is the slowest."""
    return _minutes(costs, hand_over) + (dishes - 1) * max(costs[1:] or costs)


def last_cook_holds_nobody_up(costs, dishes, hand_over):
    return _minutes(costs, hand_over) + (dishes - 1) * max(costs[:-1] or costs)


def pace_of_the_first(costs, dishes, hand_over):
    return _minutes(costs, hand_over) + (dishes - 1) * costs[0]


def pace_of_the_mean(costs, dishes, hand_over):
    return _minutes(costs, hand_over) + (dishes - 1) * sum(costs) / len(costs)


def pace_of_the_fastest(costs, dishes, hand_over):
    return _minutes(costs, hand_over) + (dishes - 1) * min(costs)


def pace_of_the_slower_end(costs, dishes, hand_over):
    return _minutes(costs, hand_over) + (dishes - 1) * max(costs[0], costs[-1])


def hand_over_sets_the_pace(costs, dishes, hand_over):
    return _minutes(costs, hand_over) + (dishes - 1) * max(*costs, hand_over)


def hand_over_once(costs, dishes, hand_over):
    return sum(costs) + (hand_over if len(costs) > 1 else 0) + (dishes - 1) * max(costs)


def hand_over_forgotten(costs, dishes, hand_over):
    return sum(costs) + (dishes - 1) * max(costs)


def whole_minutes(costs, dishes, hand_over):
    costs = [int(t) for t in costs]
    return _minutes(costs, int(hand_over)) + (dishes - 1) * max(costs)


def first_dish_counted_twice(costs, dishes, hand_over):
    return _minutes(costs, hand_over) + dishes * max(costs)


def one_dish_after_another(costs, dishes, hand_over):
    return dishes * _minutes(costs, hand_over)


def lone_cook_hands_over(costs, dishes, hand_over):
    first = sum(costs) + max(1, len(costs) - 1) * hand_over
    return first + (dishes - 1) * max(costs)


def cooks_all_alike(costs, dishes, hand_over):
    return (len(costs) + dishes - 1) * costs[0] + (len(costs) - 1) * hand_over


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


def equal_cooks_counted_once(costs, dishes, hand_over):
    return sum(set(costs)) + hand_over * (len(costs) - 1) + (dishes - 1) * max(costs)


def ten_dishes_at_most(costs, dishes, hand_over):
    return sum(costs) + hand_over * (len(costs) - 1) + (min(dishes, 10) - 1) * max(costs)


def minutes_as_text(costs, dishes, hand_over):
    return str(sum(costs) + hand_over * (len(costs) - 1) + (dishes - 1) * max(costs))


def twenty_cooks_at_most(cooks, dishes):
    return [[""] * c + [f"{c}F{d}" for d in range(dishes)] for c in range(min(cooks, 20))]


def ninety_nine_dishes_at_most(cooks, dishes):
    return [[""] * c + [f"{c}F{d}" for d in range(min(dishes, 99))] for c in range(cooks)]


def nobody_waits_in_a_square(cooks, dishes):
    late = cooks != dishes
    return [[""] * (c * late) + [f"{c}F{d}" for d in range(dishes)] for c in range(cooks)]


def forty_dishes_at_most(costs, dishes, hand_over):
    return _minutes(costs, hand_over) + (min(dishes, 40) - 1) * max(costs)


def six_cooks_at_most(costs, dishes, hand_over):
    return _minutes(costs[:7], hand_over) + (dishes - 1) * max(costs)


def hand_over_of_eight_at_most(costs, dishes, hand_over):
    return _minutes(costs, min(hand_over, 8)) + (dishes - 1) * max(costs)


def costs_of_five_at_most(costs, dishes, hand_over):
    return _minutes(costs, hand_over) + (dishes - 1) * min(5, max(costs))


def costs_compared_as_text(costs, dishes, hand_over):
    return _minutes(costs, hand_over) + (dishes - 1) * max(costs, key=str)


def five_letters_a_token(cooks, dishes):
    """An array of texts cuts off what is longer than its type allows."""
    plan = np.full((cooks, cooks + dishes - 1), "", dtype="<U5")
    for c in range(cooks):
        plan[c, c : c + dishes] = [f"{c}F{d}" for d in range(dishes)]
    return plan


def slowest_takes_a_minute_or_more(costs, dishes, hand_over):
    return _minutes(costs, hand_over) + (dishes - 1) * max(1, *costs)


def quarters_of_a_minute(costs, dishes, hand_over):
    costs = [math.ceil(4 * t) / 4 for t in costs]
    return _minutes(costs, hand_over) + (dishes - 1) * max(costs)


FORGOT = {
    "01.1": [
        (five_letters_a_token, "more than ten cooks, and a hundred dishes and more"),
        (twenty_cooks_at_most, "more than twenty cooks"),
        (ninety_nine_dishes_at_most, "a hundred dishes and more"),
        (nobody_waits_in_a_square, "as many dishes as cooks"),
        (a_row_for_each_dish, "every kitchen"),
        (counted_from_one, "every kitchen"),
        (last_cook_begins, "two cooks and more"),
        (two_slots_between_cooks, "two cooks and more"),
        (dish_before_cook, "every kitchen"),
        (one_digit, "ten dishes and more"),
        (every_second_cook_in_reverse, "two cooks and more, and two dishes and more"),
        (last_cook_forgotten, "two cooks and more"),
        (no_more_dishes_than_cooks, "more dishes than cooks"),
        (lone_cook_waits, "one cook alone"),
        (single_dish_is_everywhere, "a single dish"),
        (dots_for_no_work, 'a minute without work is ""'),
    ],
    "01.2": [
        (slowest_takes_a_minute_or_more, "cooks who all take less than a minute"),
        (quarters_of_a_minute, "minutes with more than two decimal places"),
        (forty_dishes_at_most, "more than forty dishes"),
        (six_cooks_at_most, "more than seven cooks"),
        (hand_over_of_eight_at_most, "a hand-over of more than ten minutes"),
        (costs_of_five_at_most, "a cook who takes more than five minutes"),
        (costs_compared_as_text, "compare minutes as numbers"),
        (first_cook_never_waits, "a slowest cook who comes first"),
        (last_cook_holds_nobody_up, "a slowest cook who comes last"),
        (pace_of_the_first, "a slowest cook who is not the first"),
        (pace_of_the_mean, "cooks who are not equally fast"),
        (pace_of_the_fastest, "cooks who are not equally fast"),
        (pace_of_the_slower_end, "a slowest cook who is neither first nor last"),
        (hand_over_sets_the_pace, "a hand-over that takes longer than any cook"),
        (hand_over_once, "more than one hand-over"),
        (hand_over_forgotten, "hand-overs that take time"),
        (whole_minutes, "minutes that are not whole"),
        (first_dish_counted_twice, "the way of the first dish"),
        (one_dish_after_another, "more than one cook and more than one dish"),
        (lone_cook_hands_over, "one cook alone, who hands nothing over"),
        (cooks_all_alike, "cooks who are not equally fast"),
        (equal_cooks_counted_once, "cooks who take the same time"),
        (ten_dishes_at_most, "dishes"),
        (minutes_as_text, "return a number"),
    ],
}

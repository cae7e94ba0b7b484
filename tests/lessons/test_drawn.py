"""Drawn inputs: every idea gets its share, alone and together, and what fails becomes small."""

from dataclasses import replace
from itertools import accumulate, pairwise
from random import Random

import pytest

from pipelab.lessons import check
from pipelab.lessons.answer_process import Outcome
from pipelab.lessons.chapters.ch01_draws import KITCHENS, RELAYS
from pipelab.lessons.chapters.ch08_draws import MODELS, best_cut, stage_costs
from pipelab.lessons.comparing import NUMBER, ask, compared, equal
from pipelab.lessons.drawn import Draws, Idea
from pipelab.lessons.exercise import against, each
from pipelab.lessons.shrink import shrink, simpler, size
from pipelab.lessons.written import call_text, short, written
from pipelab.partition import balance
from pipelab.trace import Event
from tests.lessons.judging import DRAWS, until_drawn


def test_the_smallest_failing_input_is_found():
    """Fails if some number is 7 or more: nothing else may be left in the input."""
    calls = []

    def failing(options):
        calls.append(len(options))
        return [any(x >= 7 for x in numbers) for numbers, _ in options]

    start = ([3, 40, 2, 19, 1.5, 8], "text stays")
    assert shrink(start, failing, lambda *_: True) == ([7], "text stays")
    assert len(calls) < 20


def test_what_the_exercise_is_not_about_is_never_tried():
    seen = []

    def failing(options):
        seen.extend(options)
        return [True] * len(options)

    smallest = shrink(([5, 5, 5], 2), failing, lambda costs, p: 1 <= p <= len(costs))
    assert smallest == ([0], 1)
    assert all(1 <= p <= len(costs) for costs, p in seen)


@pytest.mark.parametrize("value", [(0, 0.0, [], "a", None, True), ([0],), ({},)])
def test_each_step_makes_an_input_simpler(value):
    assert all(size(option) < size(value) for option in simpler(value))


def test_a_named_tuple_stays_one():
    options = simpler((Event(0, "F", 2, None, 0.0, 1.5),))
    assert options and all(isinstance(option[0], Event) for option in options)


def once(idea):
    """The same idea, which looks at each input once."""
    known = {}

    def about(*one):
        key = tuple(map(id, one))  # all inputs of a seed are kept
        if key not in known:
            known[key] = idea.about(*one)
        return known[key]

    return idea._replace(about=about)


@pytest.mark.parametrize("name", DRAWS)
def test_every_idea_gets_inputs_alone_and_together(name):
    """Over some seeds: the last idea, which is about all inputs, stands beside one of the others.

    Each is about an input that no more special one explains as well: else it is never named.
    """
    draws = DRAWS[name]
    for seed in range(3):
        inputs = draws.inputs(seed)
        assert len(inputs) >= 25, "of thirty, hardly any twice"
        assert all(draws.allowed(*one) for one in inputs)
        quick = replace(draws, ideas=tuple(map(once, draws.ideas)))
        for idea in quick.ideas:
            failed = [idea.about(*one) for one in inputs]
            assert sum(failed) >= 2, f"{idea.name!r}: {sum(failed)} inputs"
            assert quick.idea_of(inputs, failed) == idea, f"seed {seed}"


@pytest.mark.parametrize("name", DRAWS)
def test_an_idea_says_where_to_look(name):
    ideas = DRAWS[name].ideas
    assert len({idea.name for idea in ideas}) == len(ideas) >= 4
    assert all(len(idea.hint) > 12 for idea in ideas)
    assert all(idea.about(*DRAWS[name].draw(Random(0))) for idea in ideas[-1:])


def test_the_same_seed_draws_the_same_and_another_one_others():
    assert RELAYS.inputs(3) == RELAYS.inputs(3) != RELAYS.inputs(4)
    assert KITCHENS.inputs(3) != KITCHENS.inputs(4)


def test_blocks_given_out_one_by_one_are_the_best_cut():
    for n, p, embedding, head in MODELS.inputs(0):
        row = [embedding, *[1.0] * n, head]
        if n <= 30:
            ends = [0, *accumulate(balance(row, p))]
            largest = max(sum(row[a:b]) for a, b in pairwise(ends))
            counts = best_cut(n, p, embedding, head)
            assert sum(counts) == n and 0 not in counts[1:-1]
            assert max(stage_costs(counts, embedding, head)) == largest


def test_verdict_names_seed_idea_and_the_smallest_failing_call():
    def slow_first_forgotten(costs, dishes, hand_over):
        slowest = max(costs[1:] or costs)
        return sum(costs) + (len(costs) - 1) * hand_over + (dishes - 1) * slowest

    verdict = check("01.2", slow_first_forgotten, seed=11)
    (row,) = [row for row in verdict.results if not row.ok]
    assert (row.name, row.expected, row.got) == ("drawn inputs", "5", "4")
    assert "slow_first_forgotten([2.0, 1.0], 2, 0.0) is the smallest" in row.hint
    assert "about a slowest cook who comes first" in row.hint and "seed=11" in row.hint
    assert check("01.2", slow_first_forgotten, seed=11).results == verdict.results


def test_a_table_of_answers_passes_the_named_cases_alone():
    table = {(3, 6): 8, (1, 4): 4}
    cases = {"three": (3, 6), "one": (1, 4)}
    draws = Draws(
        lambda random: (random.randint(1, 9), random.randint(1, 9)),
        (Idea("every kitchen", "count the slots"),),
        allowed=lambda p, m: p >= 1 and m >= 1,
    )
    compare = against(lambda p, m: p + m - 1, "")
    rows = list(each(lambda p, m: table.get((p, m), 0), cases, compare, draws, 5))
    assert [row.ok for row in rows] == [True, True, False]


# ------------------------------------------------------------------------------ what is said


@pytest.mark.parametrize(
    ("expected", "got", "words"),
    [
        (8, "8", "the text '8'"),
        (8, [8], "a list of 1 item: [8]"),
        (8, ["8"], "a list of 1 item: ['8']"),
        (1, True, "the truth value True"),
        (8.0, 10**2000, "a whole number of about 1993 digits"),
        (0.3, 0.3000001, "0.3 and 1e-07"),
    ],
)
def test_two_columns_never_read_alike_where_they_differ(expected, got, words):
    def compare(name, value):
        return equal(name, expected, value)

    row = compared(compare, "sum", Outcome(got), (), "f()")
    assert not row.ok and row.got == words != row.expected
    is_number = isinstance(got, int | float) and got is not True
    assert is_number or row.hint == "return a number"


@pytest.mark.parametrize("nothing", [None, [None, None]])
def test_return_is_asked_for_wherever_nothing_comes_back(nothing):
    row = compared(equal, "sum", Outcome(nothing), (8,), "f()")
    assert "did you write return?" in row.hint


def test_a_wrong_form_is_named_and_python_is_not_quoted():
    row = compared(lambda name, value: value + 1, "sum", Outcome("ab"), (), "f(2)")
    assert row.got == "the text 'ab'" and "example" in row.hint
    assert "concatenate" not in str(row)


def test_a_form_is_asked_for_down_to_the_items_of_lists():
    ask([[1, 2.5], []], [[NUMBER]], "rows of numbers")
    for other in (1, [1], [["1"]], [[True]], {"a": [1]}):
        with pytest.raises(TypeError, match="rows of numbers"):
            ask(other, [[NUMBER]], "rows of numbers")


def test_a_number_that_is_rounded_is_named_where_all_that_fails_is_rounded():
    def minutes(digits):
        return lambda costs, dishes, hand_over: round(
            sum(costs) + hand_over * (len(costs) - 1) + (dishes - 1) * max(costs), digits
        )

    for digits, named in ((1, True), (0, True), (9, False)):
        drawn = until_drawn("01.2", minutes(digits), 5)[-1]
        assert drawn.ok is not named
        assert ("rounded: return all" in drawn.remark) is named


def test_what_looks_rounded_by_chance_beside_other_mistakes_is_not_called_right():
    shares = {"a": (0.25,), "b": (0.375,), "c": (0.571429,)}

    def remarks(returned):
        compare = against(lambda share: share, "look again")
        return [row.remark for row in each(lambda share: returned[share], shares, compare)]

    assert not any("rounded" in r for r in remarks({0.25: 0.2, 0.375: 0, 0.571429: 0.3}))
    assert all("rounded" in r for r in remarks({0.25: 0.2, 0.375: 0.4, 0.571429: 0.6}))


def test_values_are_written_as_python_and_bounded():
    assert written([1.0, (2, "F")]) == "[1.0, (2, 'F')]"
    assert len(short(list(range(10**6)))) < 500
    assert call_text("f", ([1.5] * 1000, 2)).endswith(", 2)")

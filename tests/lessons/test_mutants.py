"""Every small change of a right answer fails on drawn inputs: no hard point is left undrawn.

Answers that end whatever is changed in them, so that no test hangs.
"""

import warnings

import pytest

from tests.lessons import test_right_answers as right
from tests.lessons.judging import until_drawn
from tests.lessons.mutants import functions_of, mutants, source_of

ANSWERS = {
    "01.1": right.order_without_an_end,
    "01.2": right.minutes_in_numpy,
    "02.2": right.bytes_in_numpy,
    "03.1": right.bubble_by_edges,
    "03.2": right.parts_by_heap,
    "04.1": right.gpipe_backwards_in_reverse,
    "04.2": right.enough_by_formula,
    "05.2": right.weights_as_fractions,
    "06.2": right.speedup_in_units,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ANSWERS)
def test_no_change_of_a_right_answer_passes(name):
    answer = ANSWERS[name]
    passed, number = [], 0
    for what, source in mutants(source_of(answer)):
        changed = functions_of(source, vars(right))[answer.__name__]
        number += 1
        with warnings.catch_warnings(action="ignore"):  # of numpy, which divides by 0
            rows = until_drawn(name, changed, seed=number)
        passed += [what] if all(row.ok for row in rows) else []
    assert number >= 3 and not passed

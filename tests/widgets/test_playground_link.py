"""The playground's address as Python reads it: the same as the page's own JavaScript."""

import json
from pathlib import Path

import pytest

from pipelab.errors import ScheduleError
from pipelab.widgets.playground_answers import Request
from pipelab.widgets.playground_link import request_of, rows_of

CASES = json.loads(Path(__file__).parents[1].joinpath("front", "addresses.json").read_text("utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["address"])
def test_rows_are_those_that_javascript_packed(case):
    assert request_of(case["address"]).rows == case["rows"]


def test_what_is_left_out_is_as_usual():
    assert request_of("#") == Request()
    found = request_of("https://host/some/playground/index.html#s=v_min&p=2&m=5&f=10,20.5&l=.5&k=3")
    assert found == Request("v_min", 2, 5, f=[10.0, 20.5], l=0.5, k=3)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("#s=gpipe&colour=red", "it has 'colour'"),
        ("#p=four", "p=four of the playground's address is no whole number"),
        ("#f=-1", "f=-1 of the playground's address is no time"),
        ("#l=1,2", "more than one number"),
        ("#t=FFBB-FB?B", r"schedule of rank 1 cannot be read at '\?B'"),
    ],
)
def test_what_cannot_be_read_is_said(address, words):
    with pytest.raises(ScheduleError, match=words):
        request_of(address)


def test_the_rest_of_a_row_that_was_cut_is_no_token():
    with pytest.raises(ScheduleError, match="copy the whole address"):
        rows_of("FF!0F1")

"""The playground's answers are those of the schedules, the simulator and the search."""

import base64
import json

import pytest

from pipelab.schedules import one_f_one_b, validate
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.schedules.counts import peak_activations
from pipelab.schedules.schedule import Schedule
from pipelab.simulator import Cost, par, simulate
from pipelab.widgets.data import packed
from pipelab.widgets.playground_answers import Request, answers, first_state, replies
from pipelab.words import percent, time_text


def answered(**request):
    found = {}
    for answer in answers(Request(**request)):
        found |= answer
    return found


@pytest.mark.parametrize("name", BUILDERS)
def test_each_schedule_is_predicted_as_the_simulator_does(name):
    found = answered(schedule=name, p=3, m=9, v=3, f=12, i=9, w=6, l=2)
    v = BUILDERS[name].stages_per_rank or 3
    trace = simulate(build(name, 3, 9, 3), Cost(0.012 / v, 0.009 / v, 0.006 / v, 0.002))
    assert found["can_run"] and found["rows"] == build(name, 3, 9, 3).tokens
    assert found["data"] == packed(trace.events)
    assert f"bubble {percent(trace.bubble_fraction, 1)}" in found["message"]
    assert {"p": 3, "m": 9}.items() <= found["found"].items()
    again = answered(rows=found["rows"], f=12, i=9, w=6, l=2)
    assert again["data"] == found["data"] and again["found"]["schedule"] in BUILDERS


def test_a_list_of_costs_is_one_for_each_stage():
    found = answered(p=3, m=4, f=[10, 30, 10], i=5, w=[1, 2, 3])
    cost = Cost([0.010, 0.030, 0.010], 0.005, [0.001, 0.002, 0.003])
    assert found["data"] == packed(simulate(one_f_one_b(3, 4), cost).events)
    refused = answered(p=3, m=4, f=[10, 30])
    assert not refused["can_run"] and "3 stages" in refused["message"]


def test_what_cannot_run_is_refused_with_the_tokens_it_is_about():
    rows = one_f_one_b(2, 2).tokens
    rows[1][0], rows[1][1] = rows[1][1], rows[1][0]
    found = answered(rows=rows)
    assert not found["can_run"] and found["marks"] == ["1B0", "1F0"]
    assert answered(rows=[["0F0", "what"]])["message"]
    assert not answered(p=32, m=256, v=8)["can_run"]


def test_an_edited_schedule_is_the_readers_own_until_it_is_a_known_one_again():
    rows = build("gpipe", 2, 3).tokens
    assert answered(rows=rows)["found"]["schedule"] == "gpipe"
    rows[0][0], rows[0][1] = rows[0][1], rows[0][0]
    found = answered(rows=rows)
    assert found["can_run"] and found["found"]["schedule"] == ""
    assert "your own" in found["message"] and "rows" not in found


@pytest.mark.parametrize(("limit", "held"), [(0, 4), (2, 2), (3, 3)])
def test_par_keeps_within_the_limit(limit, held):
    found = answered(p=4, m=8, k=limit)
    best = par(4, 8, Cost(0.010, 0.010, 0.010), held)
    assert f"Par is {time_text(best.duration)} with at most {held} held" in found["message"]
    assert found["head"].get("budget", 0) == limit
    over = [r for r, peak in enumerate(peak_activations(one_f_one_b(4, 8))) if 0 < limit < peak]
    assert ("Over the limit" in found["message"]) == bool(over)


def test_the_critical_path_is_as_long_as_the_step():
    path = answered(p=4, m=8, f=10, i=10, w=10)["path"].split(": ")[1].split(" → ")
    assert sum(20 if "B" in token else 10 for token in path) == 330


def test_the_picture_comes_first_and_the_search_can_be_left_at_each_step():
    first, *others = answers(Request(p=4, m=8, k=3, f=7))
    assert {"data", "head", "found", "rows"} <= first.keys()
    assert "bubble" in first["message"] and "Par" not in first["message"]
    words, *steps, last = others
    assert "Its order is 1F1B." in words["message"] and words["path"]
    assert "Par is" in last["message"] and last["message"].startswith(words["message"])
    tried = par(4, 8, Cost(0.007, 0.010, 0.010), 3).tried
    assert len(steps) >= len(tried) and not any(steps), "a search is left between its schedules"
    assert not any(part == {} for part in answers(Request(p=4, m=8, k=3, f=7))), "it is known now"


def test_an_order_that_turns_out_to_be_another_one_gets_its_name():
    first, second, *_ = answers(Request(schedule="gpipe", rows=build("1f1b", 2, 3).tokens))
    assert "your own schedule" in first["head"]["sentence"] and "found" not in first
    assert "1F1B" in second["head"]["sentence"] and second["found"]["schedule"] == "1f1b"
    first, *_ = answers(Request(schedule="gpipe", rows=build("gpipe", 2, 3).tokens))
    assert "GPipe" in first["head"]["sentence"] and first["found"]["schedule"] == "gpipe"


def test_a_block_is_stamped():
    rows = [["0F0", "0B0"], ["1F0", "1B0"]]
    schedule = Schedule.from_tokens(answered(rows=rows, stamp=[1, 3, 5])["rows"])
    validate(schedule)
    assert (schedule.num_ranks, schedule.num_microbatches) == (2, 5)


def test_a_reply_is_json_and_its_bytes_come_back():
    first, *_ = map(json.loads, filter(None, replies(json.dumps({"p": 2, "m": 3, "stamp": []}))))
    data = base64.b64decode(first["data"]["base64"])
    assert data == packed(simulate(one_f_one_b(2, 3), Cost(0.01, 0.01, 0.01)).events)
    assert {choice["name"] for choice in first_state()["choices"]} == set(BUILDERS)

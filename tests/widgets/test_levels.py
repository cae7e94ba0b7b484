"""The levels without a browser: what is answered, and that a solution runs on real ranks."""

import base64
import json
import re
import time

import pytest

from pipelab.errors import PipelabError
from pipelab.levels import LEVELS
from pipelab.levels.coach import advise
from pipelab.levels.orders import best_orders
from pipelab.levels.puzzles import level_of
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.widgets import Levels
from pipelab.widgets.data import packed
from pipelab.widgets.level_answers import Question, answer, contents, first_state, replies

EACH = pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)


@pytest.fixture
def levels():
    levels = Levels()
    yield levels
    levels.close()


def rows_of(schedule) -> list[list[str]]:
    return [[*row] for row in schedule.tokens]


# ------------------------------------------------------------------------------- what is answered


@EACH
def test_each_level_begins_without_a_star_and_is_solved_by_its_best_order(level):
    first = answer(Question(level.name))
    assert first["rows"] == level.rows and first["stars"] == 0 and not first["solved"]
    best = answer(Question(level.name, rows_of(best_orders(level)[0])))
    assert best["stars"] == 3 and "this is par" in best["message"] and "rows" not in best
    built, learnt, ran = best["solved"].split("\n")
    assert built.startswith("What you built is ") and learnt == level.learnt
    assert "Gradients checked" in ran and "processes ran" in ran
    figures = {name: (value, state) for name, value, state in best["figures"]}
    assert figures["Step"] == (figures["Par"][0], "good")
    assert ("Limit" in figures) == (level.limit is not None)
    assert best["head"].get("budget", 0) == (level.limit or 0) * level.num_stages / level.num_ranks


@pytest.mark.parametrize(
    ("name", "schedule", "words"),
    [
        ("fill-and-drain", gpipe(3, 3), "GPipe (Huang et al. 2019, arXiv 1811.06965, 2.3)"),
        ("fill-and-drain", one_f_one_b(3, 3), "1F1B (Narayanan et al. 2021, arXiv 2104.04473"),
        ("zero-bubble", None, "zero bubble H1 (Qi et al. 2023, arXiv 2401.10241"),
        ("messages-take-time", None, "eager 1F1B (Zhuang et al. 2022, arXiv 2211.05322)"),
        ("the-v", None, "zero bubble V (Qi et al. 2023, arXiv 2401.10241"),
        ("two-stages-each", None, "interleaved 1F1B (Narayanan et al. 2021"),
        ("tighter-memory", None, "nearly 1F1B (Narayanan et al. 2021, arXiv 2104.04473, 2.2): "),
        ("a-slow-rank", None, "an uneven layout of your own"),
    ],
)
def test_what_was_built_is_called_by_its_name_and_paper(name, schedule, words):
    rows = rows_of(schedule or best_orders(level_of(name))[0])
    assert f"What you built is {words}" in answer(Question(name, rows))["solved"]


def test_over_the_limit_there_is_no_star_and_the_ranks_are_named():
    found = answer(Question("one-forward-one-backward"))
    assert "ranks 0, 1, 2 hold more than 3 microbatches" in found["message"]
    assert ["Held", "4, 4, 4", "bad"] in found["figures"]
    nearly = advise(level_of("one-forward-one-backward"), found["rows"]).rows
    assert answer(Question("one-forward-one-backward", nearly))["stars"] == 0


def test_what_cannot_run_is_refused_with_the_tokens_it_is_about():
    found = answer(Question("nobody-can-go-on"))
    assert not found["can_run"] and "deadlock" in found["message"]
    assert found["marks"] == ["0B0", "1B0", "2F1"]
    assert found["head"] == {} and found["data"] == b"", "no picture of the level before"
    assert "head" not in answer(Question("nobody-can-go-on", found["rows"])), "the last one stays"
    for asked in ("why", "recorded"):
        assert "repair" in answer(Question("nobody-can-go-on", found["rows"], asked))["advice"]
    assert "no token" in answer(Question("first-steps", [["0Q0"], ["1F0"]]))["message"]


def test_the_coach_moves_and_says_why():
    rows = LEVELS[0].rows
    found = answer(Question("first-steps", rows, "coach"))
    assert found["rows"] != rows and "Why: " in found["advice"]
    assert found["pointed"] == ["0B0"]
    again = answer(Question("first-steps", found["rows"], "coach"))
    assert "rows" not in again and "This is par" in again["advice"]
    assert (again["stars"], again["coached"]) == (3, False), "there was nothing to move"


def test_the_third_star_is_for_who_did_it_without_the_coach():
    found = answer(Question("first-steps", LEVELS[0].rows, "coach"))
    assert (found["stars"], found["coached"]) == (2, True)
    assert found["message"] == (
        "Two stars: this is par. The coach moved, too: begin again and do it alone for the third."
    )
    edited = answer(Question("first-steps", found["rows"], coached=True))
    assert (edited["stars"], edited["coached"]) == (2, True)
    again = answer(Question("first-steps", asked="again", coached=True))
    assert not again["coached"] and again["undo"] == "none", "undo leads to no third star"
    assert answer(Question("first-steps", found["rows"], coached=again["coached"]))["stars"] == 3


def test_why_points_at_the_bubble():
    found = answer(Question("first-steps", LEVELS[0].rows, "why", 0))
    assert found["advice"].startswith("Bubble 1 of 5: rank 0 is idle for 30 ms")
    assert found["at"] == pytest.approx(0.025) and found["pointed"] == ["0B0", "1F0", "1B0"]
    assert found["head"]["source"] == "predicted", "also after a run was shown"
    second = answer(Question("first-steps", LEVELS[0].rows, "why", 1))["advice"]
    assert second.startswith("Bubble 2 of 5")


@EACH
def test_what_real_ranks_did_is_shown_over_its_prediction(level):
    rows = rows_of(best_orders(level)[0])
    found = answer(Question(level.name, rows, "recorded"))
    assert found["head"]["source"] == "recorded" and found["ghost_head"]["source"] == "predicted"


def test_a_block_is_stamped_and_a_collision_is_said():
    start = level_of("stamp-a-block").rows
    found = answer(Question("stamp-a-block", start, stamp=(1, 3, 8)))
    assert found["rows"] == one_f_one_b(4, 8).tokens and found["stars"] == 3
    long = answer(Question("stamp-a-block", start, stamp=(1, 6, 8)))
    assert long["stars"] < 3
    refused = answer(Question("stamp-a-block", start, stamp=(1, 2, 8)))
    assert "the period is 2" in refused["message"] and "rows" not in refused
    fewer = answer(Question("stamp-a-block", start, stamp=(1, 3, 4)))
    assert "the level wants 4 stages and 8 microbatches" in fewer["message"]


def test_a_reply_is_json_and_its_bytes_come_back():
    (text,) = replies(json.dumps({"level": "fill-and-drain", "rows": gpipe(3, 3).tokens}))
    data = base64.b64decode(json.loads(text)["data"]["base64"])
    assert data == packed(simulate(gpipe(3, 3), Cost(0.01, 0.01, 0.01)).events)


def test_a_page_has_a_first_look_at_every_level():
    state = json.loads(json.dumps(first_state()))
    assert [*state["firsts"]] == [entry["name"] for entry in contents()]
    assert all(len(entry["hints"]) == 3 for entry in state["contents"])
    assert len(json.dumps(state)) < 200_000


# ------------------------------------------------------------------------------------ the widget


def test_its_traits_are_the_answers(levels):
    assert levels.level == "first-steps" and levels.rows == LEVELS[0].rows and levels.stars == 0
    levels.set_state({"rows": [["0F0", "0F1", "0B0", "0B1"], levels.rows[1]]})
    assert levels.stars == 3 and "What you built is 1F1B" in levels.solved
    assert levels.schedule.num_ranks == 2 and repr(levels) == "Levels('first-steps', 3 stars)"
    assert levels._repr_mimebundle_()[0]["text/plain"].startswith("First steps\nrank 0  0F0 0F1")


def test_a_button_asks_and_the_rows_of_an_answer_are_not_judged_again(levels):
    levels.set_state({"asked": [1, "coach"]})
    assert "Why: " in levels.advice and levels.pointed == ["0B0"]
    assert levels.stars == 2 and levels.coached
    levels.set_state({"rows": [[*row] for row in reversed(levels.rows)]})
    assert levels.coached, "until the level begins again"
    levels.set_state({"asked": [1, "again"]})
    levels.set_state({"asked": [1, "coach"]})
    before = levels.checked
    levels.set_state({"asked": [2, "why", 0]})
    assert levels.at > 0 and levels.checked == before + 1
    levels.set_state({"asked": [3, "recorded"]})
    assert levels.head["source"] == "recorded"
    levels.set_state({"asked": [4, "begin", 0, "a-slow-rank", None]})
    assert levels.level == "a-slow-rank" and levels.rows == LEVELS[11].rows and levels.stars == 0
    left = [[*row] for row in LEVELS[1].rows]
    left[0].reverse()
    levels.set_state({"asked": [5, "begin", 0, "fill-and-drain", left]})
    assert levels.rows == left and not levels.can_run and levels.undo == "none"
    levels.set_state({"asked": [6, "again"]})
    assert levels.rows == LEVELS[1].rows and levels.undo == "step"
    levels.set_state({"asked": [7, "begin", 0, "fill-and-drain", left, True]})
    assert levels.coached, "as it was left"


def test_a_stage_moves_as_a_whole_in_one_step_of_undo(levels):
    levels.level = "a-slow-rank"
    rows = [[*row] for row in levels.rows]
    rows[0].append(rows[1].pop(0))
    levels.set_state({"rows": rows})
    assert levels.undo == "joined" and levels.stars == 3
    assert not any("1F" in token or "1B" in token for token in levels.rows[1])
    levels.set_state({"rows": LEVELS[11].rows})
    assert levels.undo == "step" and levels.stars == 0


def test_a_level_is_chosen_by_number_or_name_and_others_are_refused():
    for chosen in (12, "a-slow-rank"):
        levels = Levels(chosen)
        assert levels.level == "a-slow-rank"
        levels.close()
    for wrong in (0, 13, "nothing"):
        with pytest.raises(PipelabError, match="give a number from 1 to 12, or first-steps"):
            Levels(wrong)


@pytest.mark.parametrize("name", ["messages-take-time", "the-v", "a-slow-rank"])
def test_a_solution_runs_on_real_ranks_with_gradients_checked(name):
    levels = Levels(name)
    try:
        levels.rows = rows_of(best_orders(level_of(name))[0])
        levels.set_state({"run_asked": 1})
        until = time.monotonic() + 40
        while levels.state == "running":
            assert time.monotonic() < until, "waited too long"
            time.sleep(0.01)
        assert re.search(r"It ran on \d real ranks: \d+ ms", levels.advice), levels.message
        assert "Gradients checked" in levels.advice and "wrong" not in levels.advice
        assert levels.trace.source == "recorded" and levels.ghost_head["source"] == "predicted"
        levels.set_state({"asked": [1, "why", 0]})
        assert "is idle for" in levels.advice
    finally:
        levels.close()

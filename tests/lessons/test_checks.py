"""Checks distinguish right from wrong: the stub and every known-wrong answer fail, and by name."""

from functools import partial
from importlib import import_module

import cloudpickle
import pytest
import torch

from pipelab.lessons import check, exercise, trials
from pipelab.lessons.answer_process import call
from pipelab.lessons.chapters import MODULES, chapter_of
from tests.lessons.judging import judge, same_draws, trial

WRONG: dict = {}
FORGOT: dict = {}
for number in MODULES:
    module = import_module(f"tests.lessons.wrong_{number}")
    cloudpickle.register_pickle_by_value(module)  # as if a notebook had defined it
    WRONG |= module.WRONG
    FORGOT |= getattr(module, "FORGOT", {})


def params(answers):
    return [
        pytest.param(name, answer, failed, id=f"{name}-{getattr(answer, '__name__', answer)}")
        for name, rows in answers.items()
        for answer, failed in rows
    ]


EXERCISES = [name for number in MODULES for name in chapter_of(number).exercises]


def stub(*arguments):
    raise NotImplementedError("your turn")


@pytest.mark.parametrize(("name", "answer", "failed"), params(WRONG))
def test_known_wrong_answer_fails_by_name(name, answer, failed, monkeypatch):
    """In a separate process, as for a learner; an endless loop is stopped sooner than there."""
    monkeypatch.setattr(exercise, "call", partial(call, seconds=3.0))
    monkeypatch.setattr(trials, "trial", trial)
    with same_draws():
        verdict = check(name, answer, seed=0)
    assert not verdict.passed
    assert failed in [row.name for row in verdict.results if not row.ok], verdict


@pytest.mark.parametrize(("name", "answer", "words"), params(FORGOT))
def test_misconception_is_named(name, answer, words):
    """Whatever is drawn: the seeds are others in each run of a learner."""
    for seed in range(3):
        verdict = judge(name, answer, seed)
        assert not verdict.passed
        failed = [row for row in verdict.results if not row.ok]
        assert all(row.hint for row in failed), f"no next step\n{verdict}"
        assert any(words in row.hint for row in failed), f"seed {seed}\n{verdict}"


@pytest.mark.parametrize("name", EXERCISES)
def test_every_exercise_has_eight_wrong_answers_and_two_ways_to_say_nothing(name):
    assert len(WRONG[name]) + len(FORGOT.get(name, ())) >= 8
    for nothing in (..., None, stub, 7, "gpipe"):
        verdict = check(name, nothing)
        assert verdict.results and not any(row.ok for row in verdict.results), verdict


ODD = [
    10**400,
    True,
    "8",
    [],
    [float("nan")] * 4,
    [[10**400] * 3] * 4,
    [["0F99999999999"]] * 4,
    {"a": torch.empty(0, 3)},
]


@pytest.mark.parametrize("name", EXERCISES)
def test_no_value_is_a_fault_of_the_check(name):
    """In 06.1, a number was one: "not your answer's fault: restart the kernel"."""
    for value in ODD:
        verdict = judge(name, lambda *arguments, value=value: value, 0)
        assert verdict.results and not verdict.passed


@pytest.mark.parametrize("number", MODULES)
def test_chapter_is_whole(number):
    chapter = chapter_of(number)
    assert set(chapter.exercises) == {f"{number}.1", f"{number}.2"}
    assert number in chapter.predictions
    for one in chapter.exercises.values():
        assert len(set(one.hints)) == 3
    for prediction in chapter.predictions.values():
        choices = getattr(prediction, "choices", {}).values()
        assert all(len(choice.explanation) > 40 for choice in choices)
        assert choices or len(prediction.slips) >= 2


def test_a_choice_that_no_candidate_is_like_is_answered_with_what_is_wrong():
    """It said "in this order" of ('1F1B', 4, 8), whose order is right."""

    def hint(*choice):
        rows = {row.name: row.hint for row in check("06.1", lambda budget: choice).results}
        return rows["tight: a candidate"]

    assert hint("1F1B", 4, 8) == "the schedule is 'gpipe' or '1f1b', in small letters"
    assert hint("gpipe", 8, 16) == "there are 1, 2 or 4 ranks; there are 2, 4 or 8 microbatches"
    assert hint(4, "gpipe", 8).startswith("in this order: schedule, ranks, microbatches")
    assert hint("gpipe", 4).startswith("in this order: schedule, ranks, microbatches")


def test_a_function_that_prints_and_returns_nothing_is_named():
    verdict = check("06.1", lambda budget: print("gpipe"))
    assert "did you write return? print only shows" in str(verdict)

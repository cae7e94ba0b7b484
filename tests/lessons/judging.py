"""Judge many answers in one process: what the checks say, without a fresh process for each call."""

import copy
from contextlib import contextmanager
from functools import cache
from unittest.mock import patch

from pipelab.lessons import drawn, exercise, shrink, trials
from pipelab.lessons.answer_process import Outcome
from pipelab.lessons.chapters import MODULES, chapter_of
from pipelab.lessons.drawn import Draws
from pipelab.lessons.plain_data import plain
from pipelab.lessons.results import Result, Verdict


def call_here(function, cases, seconds=10.0):
    """The outcomes of calls in this process: for answers that do no harm."""
    return [_outcome(function, copy.deepcopy(case)) for case in cases]


def _outcome(function, arguments):
    try:
        return Outcome(plain(function(*arguments)))
    except Exception as error:
        return Outcome(None, f"{type(error).__name__}: {error}")


_drawn = {}
_draw = Draws.inputs
trial = cache(trials.trial)  # the same for all answers that choose it


def _inputs(draws, seed):
    """Of a seed: the same for all answers, whatever they are compared with."""
    key = draws.draw, draws.ideas, draws.allowed, draws.number, seed
    if key not in _drawn:
        _drawn[key] = _draw(draws, seed)
    return _drawn[key]


@contextmanager
def same_draws():
    """Inputs are drawn once for all answers, and few smaller ones are looked at.

    Which row fails, and the idea that its hint names, do not depend on the input that is shown.
    """
    with (
        patch.object(Draws, "inputs", _inputs),
        patch.object(shrink, "ROUNDS", 1),
        patch.object(shrink, "_AT_ONCE", 10),
    ):
        yield


def judge(name, answer, seed):
    """The verdict, with what is recorded kept from one answer to the next."""
    with _in_one_process(), same_draws():
        rows = [row for row in _found(name, answer, seed) if isinstance(row, Result)]
    return Verdict(name, chapter_of(name).exercises[name].title, tuple(rows))


def until_drawn(name, answer, seed):
    """The rows up to that of the drawn inputs; no run is recorded after it."""
    rows = []
    with _in_one_process():
        for row in _found(name, answer, seed):
            rows += [row] if isinstance(row, Result) else []
            if rows and rows[-1].name == drawn.NAME:
                break
    return rows


def _found(name, answer, seed):
    return chapter_of(name).exercises[name].judge(answer, seed)


@contextmanager
def _in_one_process():
    with (
        patch.object(exercise, "call", call_here),
        patch.object(Draws, "inputs", _inputs),
        patch.object(trials, "trial", trial),
    ):
        yield


DRAWS = {
    name: one.draws
    for number in MODULES
    for name, one in chapter_of(number).exercises.items()
    if one.draws
}

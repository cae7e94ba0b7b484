"""Judge many answers in one process: what the checks say, without a fresh process for each call."""

import copy
from contextlib import ExitStack
from functools import cache
from unittest.mock import patch

from pipelab.lessons import exercise
from pipelab.lessons.answer_process import Outcome, plain
from pipelab.lessons.chapters import MODULES, chapter_of
from pipelab.lessons.drawn import Draws
from pipelab.lessons.results import Result, Verdict


def call_here(function, cases, seconds=10.0):
    """The outcomes of calls in this process: for answers that do no harm."""
    return [_outcome(function, copy.deepcopy(case)) for case in cases]


def _outcome(function, arguments):
    try:
        return Outcome(plain(function(*arguments)))
    except Exception as error:
        return Outcome(None, f"{type(error).__name__}: {error}")


_inputs = cache(Draws.inputs)  # of a seed: the same for all answers


def judge(name, answer, seed):
    """The verdict, with what is recorded kept from one answer to the next."""
    found = chapter_of(name).exercises[name]
    with ExitStack() as stack:
        stack.enter_context(patch.object(exercise, "call", call_here))
        stack.enter_context(patch.object(Draws, "inputs", _inputs))
        rows = [row for row in found.judge(answer, seed) if isinstance(row, Result)]
    return Verdict(name, found.title, tuple(rows))


DRAWS = {
    name: one.draws
    for number in MODULES
    for name, one in chapter_of(number).exercises.items()
    if one.draws
}

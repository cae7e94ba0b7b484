"""``check("04.1", answer)``: run a learner's answer, and say what is as expected and what is not.

Structure is judged exactly; time only as a ratio, on paced runs.
"""

from pipelab.errors import LessonError, PipelabError
from pipelab.lessons import ledger
from pipelab.lessons.chapters import chapter_of
from pipelab.lessons.exercise import Exercise
from pipelab.lessons.verdict import Result, Shown, Verdict


def check(name: str, answer: object) -> Verdict:
    """Judge an answer: data, or a small function, as the exercise asks for.

    A function runs in fresh processes that are stopped after some seconds. The outcome is noted in
    the ledger on this machine.

    Raises:
        LessonError: there is no such exercise.
    """
    exercise = exercise_of(name)
    results, shown = _judge(exercise, answer)
    verdict = Verdict(name, exercise.title, tuple(results), tuple(shown))
    ledger.note_check(name, verdict.passed, [row.name for row in results if not row.ok])
    return verdict


def exercise_of(name: str) -> Exercise:
    """The exercise of this name. Raises LessonError, with those that there are."""
    exercises = chapter_of(name).exercises
    if name not in exercises:
        raise LessonError(f"there is no exercise {name!r}: take one of {', '.join(exercises)}")
    return exercises[name]


def _judge(exercise: Exercise, answer: object) -> tuple[list[Result], list[Shown]]:
    results: list[Result] = []
    shown: list[Shown] = []
    if answer is ... or answer is None:
        look = "write it in the cell above, and run that cell before this one"
        return [Result("an answer", exercise.wants, "nothing yet", False, look)], shown
    try:
        for found in exercise.judge(answer):
            if isinstance(found, Result):
                results.append(found)
            else:
                shown.append(found)
    except PipelabError as error:  # refused, or failed on a rank: the message says why
        results.append(Result("it runs", "a run to the end", str(error), False, str(error)))
    return results, shown

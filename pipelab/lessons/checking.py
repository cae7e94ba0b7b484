"""``check("04.1", answer)`` judges an answer by running it; ``hint("04.1")`` helps to write one.

Structure is judged exactly; time only as a ratio, on paced runs.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from pipelab.errors import LessonError
from pipelab.lessons import progress_file, warm_up
from pipelab.lessons.chapters import chapter_of
from pipelab.lessons.prediction import Card
from pipelab.lessons.results import Verdict
from pipelab.notice import noticed

if TYPE_CHECKING:
    from pipelab.lessons.exercise import Exercise

warm_up.begin_grader()


def check(name: str, answer: object, seed: int | None = None) -> Verdict:
    """Judge an answer: the function that the exercise asks for.

    It runs in a fresh process, which is stopped after some seconds. The outcome is saved in the
    progress file on this machine.

    Args:
        name: of the exercise, such as ``"04.1"``.
        answer: the function.
        seed: of the inputs that are drawn: the one of an earlier verdict repeats them. Without it
            they are new each time.

    Raises:
        LessonError: there is no such exercise.
    """
    with noticed("running your answer"):
        from pipelab.lessons.verdicts import judged  # loads torch, which takes seconds

        verdict = judged(name, _exercise(name), answer, seed)
    failed = [row.name for row in verdict.results if not row.ok]
    progress_file.add_attempt(name, verdict.passed, failed)
    if verdict.passed:
        afterwards = f'The course\'s own answer, to compare: pipelab.lessons.solution("{name}")'
        verdict = replace(verdict, below="\n".join(filter(None, (verdict.below, afterwards))))
    return verdict


def hint(name: str) -> Card:
    """The next of an exercise's three hints; after the third, the third again.

    Raises:
        LessonError: there is no such exercise.
    """
    hints = _exercise(name).hints
    step = min(progress_file.count_hint(name), len(hints))
    more = " Ask again for the next." if step < len(hints) else ""
    return Card(f"Hint {step} of {len(hints)} for {name}: {hints[step - 1]}{more}")


def _exercise(name: str) -> "Exercise":
    exercises = chapter_of(name).exercises
    if name not in exercises:
        raise LessonError(f"there is no exercise {name!r}: choose one of {', '.join(exercises)}")
    return exercises[name]

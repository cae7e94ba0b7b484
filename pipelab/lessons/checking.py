"""``check("04.1", answer)`` judges an answer by running it; ``hint("04.1")`` helps to write one.

Structure is judged exactly; time only as a ratio, on paced runs.
"""

from dataclasses import replace

from pipelab.errors import LessonError, PipelabError
from pipelab.lessons import progress_file
from pipelab.lessons.answer_bytes import uses_pipelab
from pipelab.lessons.answer_process import keep_prints
from pipelab.lessons.chapters import chapter_of
from pipelab.lessons.drawn import new_seed
from pipelab.lessons.exercise import Exercise
from pipelab.lessons.prediction import Card
from pipelab.lessons.results import Result, Shown, Verdict
from pipelab.lessons.torch_settings import usual_settings

_OWN = "Your answer uses pipelab's own functions, and is right: could you write it without them?"
_RESTART = "not your answer's fault: restart the kernel, run the cells again, and then this check"


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
    exercise = _exercise(name)
    with usual_settings(), keep_prints() as prints:
        results, shown = _judge(exercise, answer, new_seed() if seed is None else seed)
    verdict = Verdict(name, exercise.title, tuple(results), tuple(shown), str(prints))
    if verdict.passed and callable(answer) and uses_pipelab(answer):
        verdict = replace(verdict, below="\n".join(filter(None, (_OWN, verdict.below))))
    failed = [row.name for row in results if not row.ok]
    progress_file.add_attempt(name, verdict.passed, failed)
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


def _exercise(name: str) -> Exercise:
    exercises = chapter_of(name).exercises
    if name not in exercises:
        raise LessonError(f"there is no exercise {name!r}: choose one of {', '.join(exercises)}")
    return exercises[name]


def _judge(exercise: Exercise, answer: object, seed: int) -> tuple[list[Result], list[Shown]]:
    results: list[Result] = []
    shown: list[Shown] = []
    if answer is ... or answer is None:
        where = "write it in the cell above, and run that cell before this one"
        return [Result("an answer", exercise.wants, "nothing yet", False, where)], shown
    if not callable(answer):
        where = "pass the function itself, without parentheses after its name"
        got = type(answer).__name__
        return [Result("a function", exercise.wants, got, False, where)], shown
    try:
        for found in exercise.judge(answer, seed):
            if isinstance(found, Result):
                results.append(found)
            else:
                shown.append(found)
    except PipelabError as error:  # refused, or failed on a rank: the message says why
        results.append(Result("it runs", "a run to the end", str(error), False, str(error)))
    except Exception as error:  # a fault of ours, or a cell has changed what the check uses
        got = f"{type(error).__name__}: {error}"
        results.append(Result("the check itself", "a verdict", got, False, _RESTART))
    return results, shown

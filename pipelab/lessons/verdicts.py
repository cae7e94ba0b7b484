"""What ``check`` says of an answer: called, judged, and what goes wrong is a result too."""

from dataclasses import replace

from pipelab.errors import PipelabError
from pipelab.lessons.answer_bytes import kind_name, pack, uses_pipelab
from pipelab.lessons.answer_process import keep_prints
from pipelab.lessons.drawn import new_seed
from pipelab.lessons.exercise import Exercise
from pipelab.lessons.results import Result, Shown, Verdict
from pipelab.lessons.torch_settings import usual_settings
from pipelab.words import visible

_OWN = "Your answer uses pipelab's own functions, and is right: could you write it without them?"
_RESTART = "not your answer's fault: restart the kernel, run the cells again, and then this check"


def judged(name: str, exercise: Exercise, answer: object, seed: int | None) -> Verdict:
    """The verdict on an answer; ``seed``: of the inputs that are drawn, a new one if None."""
    with usual_settings(), keep_prints() as prints:
        results, shown = _judge(exercise, answer, new_seed() if seed is None else seed)
    rows = tuple(map(_visible, results))
    verdict = Verdict(name, exercise.title, rows, tuple(shown), visible(str(prints)))
    asks = verdict.passed and not exercise.may_use_pipelab
    if asks and callable(answer) and uses_pipelab(answer):
        verdict = replace(verdict, below="\n".join(filter(None, (_OWN, verdict.below))))
    return verdict


def _visible(row: Result) -> Result:
    name, expected, got, ok, *others = row
    return Result(visible(name), visible(expected), visible(got), ok, *map(visible, others))


def _judge(exercise: Exercise, answer: object, seed: int) -> tuple[list[Result], list[Shown]]:
    results: list[Result] = []
    shown: list[Shown] = []
    if answer is ... or answer is None:
        where = "write it in the cell above, and run that cell before this one"
        return [Result("an answer", exercise.wants, "nothing yet", False, where)], shown
    if not callable(answer):
        where = "pass the function itself, without parentheses after its name"
        got = kind_name(answer)
        return [Result("a function", exercise.wants, got, False, where)], shown
    try:
        for found in exercise.judge(pack(answer), seed):
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

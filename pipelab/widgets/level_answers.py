"""The levels' answers: what their page, and the notebook's widget, ask of rules, search and coach.

question  a level, the rows as they are, and what is asked: nothing, the coach, why, or real ranks
answer    the traits that change: rows, figures, stars, a sentence, tokens to point at

It runs in a browser too, so it needs no torch.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pipelab.errors import PipelabError
from pipelab.levels import LEVELS
from pipelab.levels.coach import advise
from pipelab.levels.level import MOST_STARS, Level, Score, score
from pipelab.levels.puzzles import level_of
from pipelab.levels.real_runs import recording_of
from pipelab.levels.stages import completed
from pipelab.levels.why_idle import why_idle
from pipelab.schedules import Schedule, recognise
from pipelab.schedules.catalogue import BUILDERS, title_of
from pipelab.schedules.recognition import order_of
from pipelab.simulator.stamp import stamped
from pipelab.trace import Trace
from pipelab.widgets.data import frame, head, packed
from pipelab.widgets.editor_text import marked
from pipelab.widgets.page import portable, portable_values
from pipelab.words import percent, time_text

Json = dict[str, object]
Asked = Literal["", "begin", "again", "coach", "why", "recorded"]

YOUR_ORDER = "your order"  # its name in sentences
USUAL_BLOCK = ("6", "8")  # a period with holes, and microbatches: where a block is stamped

_NO_PICTURE: Json = {"head": {}, "data": b"", "ghost_head": {}, "ghost_data": b""}
_STARS = ("no star yet", "one star", "two stars", "three stars")


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        level: its name.
        rows: tokens, one row for each rank; None for those that the level begins with.
        asked: what else than the judgement of these rows. "begin": another level, with these rows;
            "again": the same level, as it begins.
        place: which bubble, where it is asked why; 0 for the longest.
        stamp: how often it was asked for, a period and microbatches; () for not at all.
        coached: whether the coach has moved in these rows since the level began.
    """

    level: str
    rows: list[list[str]] | None = None
    asked: Asked = ""
    place: int = 0
    stamp: Sequence[int] = ()
    coached: bool = False


def answer(question: Question) -> Json:
    """The traits to set."""
    level = level_of(question.level)
    rows = question.rows if question.rows is not None else level.rows
    found: Json = {"advice": "", "pointed": [], "undo": "step", "at": -1.0}
    if question.asked == "begin" or (question.asked == "again" and question.coached):
        found["undo"] = "none"  # no way back to what the coach did
    coached = question.coached and question.rows is not None
    try:
        if question.stamp:
            rows = stamped(Schedule.from_tokens(rows), *question.stamp[1:]).tokens
    except PipelabError as error:
        return {**found, "message": str(error)}
    if level.may_move and (whole := completed(rows)):
        rows = whole
        found["undo"] = "joined"
    if question.asked == "coach":
        move = advise(level, rows)
        coached = coached or move.rows is not None
        rows = move.rows or rows
        found |= {"advice": move.text, "pointed": [*move.tokens]}
    found["coached"] = coached
    if rows != question.rows or question.asked in ("begin", "again"):
        found["rows"] = rows
    try:
        schedule = Schedule.from_tokens(rows, YOUR_ORDER)
        result = score(level, schedule)
        if coached:
            result = result.with_the_coach
    except PipelabError as error:
        found |= _refused(level, rows, error, question.asked)
        return found | (_NO_PICTURE if question.rows is None or question.asked == "begin" else {})
    if question.asked == "why":
        picture = _picture(level, result.trace)  # it may have been that of a run
        return {**found, **picture, **_why(level, schedule, result.trace, question.place)}
    if question.asked == "recorded":
        return {**found, **_recorded(level)}
    return {**found, **_judged(level, schedule, result)}


def replies(text: str) -> Iterator[str]:
    """``answer`` to a question in JSON, in JSON; bytes travel as base64."""
    yield portable(answer(Question(**json.loads(text))))


def first_state() -> Json:
    """What a page needs before Python is there: the levels, and each one's first answer."""
    firsts = {level.name: portable_values(answer(Question(level.name))) for level in LEVELS}
    return {"contents": contents(), "firsts": firsts, "usual": [*USUAL_BLOCK]}


def contents() -> list[Json]:
    """What a page says of each level, whatever its rows are."""
    return [
        {
            "name": level.name,
            "title": level.title,
            "task": level.task,
            "hints": [*level.hints],
            "stamp": level.may_stamp,
            "recorded": recording_of(level.name) is not None,
        }
        for level in LEVELS
    ]


def _refused(level: Level, rows: list[list[str]], error: PipelabError, asked: Asked) -> Json:
    advice = {} if asked == "coach" else {"advice": ""}
    if asked in ("why", "recorded"):
        advice = {"advice": "It cannot run yet, so there is no bubble: first repair it."}
    return {
        "message": str(error),
        "can_run": False,
        "marks": marked(rows, error),
        "stars": 0,
        "solved": "",
        "figures": _figures(level, None),
        **advice,
    }


def _judged(level: Level, schedule: Schedule, result: Score) -> Json:
    return {
        "message": _message(level, result),
        "can_run": True,
        "marks": [],
        "stars": result.stars,
        "solved": _solved(level, schedule, result) if result.stars else "",
        "figures": _figures(level, result),
        **_picture(level, result.trace),
    }


def _picture(level: Level, trace: Trace) -> Json:
    """The prediction, with the limit on its memory."""
    known = head(trace)
    if level.limit:
        known["budget"] = level.limit * (level.num_stages // level.num_ranks)
    return {**_NO_PICTURE, "head": known, "data": packed(trace.events)}


def _figures(level: Level, result: Score | None) -> list[list[str]]:
    """Names, values, and whether a value is ``good`` or ``bad``; "" says nothing."""
    took = time_text(result.seconds) if result else "–"
    fast = bool(result and result.seconds <= level.goal + 1e-9)
    found = [
        ["Step", took, _sign(result, fast)],
        ["Goal", time_text(level.goal), ""],
        ["Par", time_text(level.par), ""],
    ]
    if level.limit:
        held = ", ".join(f"{peak:.3g}" for peak in result.held) if result else "–"
        fits = bool(result and not result.over)
        found.append(["Held", held, _sign(result, fits)])
        found.append(["Limit", str(level.limit), ""])
    if result:
        found.append(["Bubble", percent(result.trace.bubble_fraction, 1), ""])
    return found


def _sign(result: Score | None, is_good: bool) -> str:
    return "" if result is None else "good" if is_good else "bad"


def _message(level: Level, result: Score) -> str:
    """One or two sentences on how far it is."""
    parts = []
    if result.over:
        ranks = ", ".join(map(str, result.over))
        one = len(result.over) == 1
        parts.append(
            f"It can run, but {'rank' if one else 'ranks'} {ranks} "
            f"{'holds' if one else 'hold'} more than {level.limit} microbatches at once."
        )
    if result.seconds > level.goal + 1e-9:
        more = time_text(result.seconds - level.goal)
        parts.append(f"{'' if result.over else 'It can run. '}The step is {more} above the goal.")
    if result.stars and result.seconds <= level.par + 1e-9:
        parts.append(f"{_STARS[result.stars].capitalize()}: this is par.{_beaten(level, result)}")
        if result.stars < MOST_STARS:
            parts.append("The coach moved, too: begin again and do it alone for the third.")
    elif result.stars:
        more = time_text(result.seconds - level.par)
        parts.append(f"Solved with {_STARS[result.stars]}; par is {more} shorter.")
    return " ".join(parts) or "It can run."


def _beaten(level: Level, result: Score) -> str:
    return " Better than par: our search did not find this." * (result.seconds < level.par - 1e-9)


def _solved(level: Level, schedule: Schedule, result: Score) -> str:
    """What was built, what is known now, and what real ranks made of it; one line each."""
    lines = [f"What you built is {_called(level, schedule)}.", level.learnt]
    if line := _ran(level, schedule, result):
        lines.append(line)
    return "\n".join(lines)


def _called(level: Level, schedule: Schedule) -> str:
    """Its name and paper; the level's own name, where the order has several in these sizes."""
    found = recognise(schedule)
    if found.name is None:  # stages were moved: no schedule of the catalogue has an uneven layout
        return "an uneven layout of your own"
    name = level.schedule if level.schedule in found.also else found.name
    claims = BUILDERS[name].claims
    source = next((claim.source for claim in claims if "arXiv" in claim.source), "")
    paper = f" ({source})" if source else ""
    if found.is_own and found.is_near:
        return f"nearly {found.title}{paper}: {found.difference}"
    if found.is_own:
        return f"an order of your own; the nearest with a name is {found.title}{paper}"
    return ", ".join(filter(None, (title_of(name) + paper, found.difference)))


def _ran(level: Level, schedule: Schedule, result: Score) -> str:
    """What a recording of real ranks says, beside the prediction."""
    recording = recording_of(level.name)
    if recording is None:
        return ""
    trace = recording.trace
    which = "this order" if order_of(trace).ranks == schedule.ranks else "an order at par"
    bubble = percent(trace.bubble_fraction, 1)
    return (
        f"Real ranks: {level.num_ranks} processes ran {which}, paced with these times, in "
        f"{time_text(trace.duration)}; predicted {time_text(level.par)}. Bubble {bubble}. "
        f"{recording.gradients}"
    )


def _recorded(level: Level) -> Json:
    """The recording in place of the prediction, which is drawn behind it."""
    recording = recording_of(level.name)
    if recording is None:
        return {"advice": "No recording of this level is here."}
    predicted = recording.predicted(level)
    return {
        "head": head(recording.trace),
        "data": packed(recording.trace.events),
        "ghost_head": frame(predicted),
        "ghost_data": packed(predicted.events),
        "advice": "Recorded on real ranks, with the prediction drawn behind it. Any edit shows "
        "your own order again.",
    }


def _why(level: Level, schedule: Schedule, trace: Trace, place: int) -> Json:
    why = why_idle(level, schedule, trace, place)
    if why is None:
        return {"advice": "There is no bubble: no rank is ever idle."}
    text = why.text[0].upper() + why.text[1:]
    return {"advice": text, "pointed": [*why.tokens], "at": why.at}

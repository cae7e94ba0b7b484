"""The playground's answers: what its page asks of the schedules and the simulator, in the browser.

request   a schedule of the catalogue with its sizes, or rows of tokens; costs; a memory limit
answers   the traits that the editor shows; the search for par takes longest, and comes last
"""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from math import ceil

from pipelab.action import COMPUTE
from pipelab.errors import PipelabError, ScheduleError
from pipelab.schedules import Schedule, recognise
from pipelab.schedules.catalogue import BUILDERS, build, title_of
from pipelab.schedules.communication import lower
from pipelab.schedules.counts import peak_activations
from pipelab.simulator import Best, Cost, best_schedule, par, simulate
from pipelab.trace import Trace, critical_path
from pipelab.widgets.data import head, packed
from pipelab.widgets.editor_text import held_text, longest_bubble, marked, par_text, stamped
from pipelab.words import number, percent, time_text

Json = dict[str, object]

_OWN = "your own schedule"
_MOST_TO_SEARCH = 256  # ranks x microbatches
_MOST_TOKENS = 8192  # of a schedule by name: a page with more of them hangs
_MS = 1000  # in a second; a quotient of it is as exact as the same number written in seconds


@dataclass(frozen=True)
class Request:
    """What the page asks.

    Attributes:
        schedule: a name in the catalogue.
        p: ranks. m: microbatches. v: stages per rank, where there is a choice.
        f: milliseconds of F: of a rank's whole slice of the model, which its stages share; or a
            list, one number for each stage. i and w: of I and W.
        l: milliseconds that a message takes.
        k: microbatches whose activations a rank may hold at once; 0 for no limit.
        rows: tokens, one row for each rank, in place of the schedule of that name.
        stamp: how often it was asked for, a period and microbatches: see ``stamped``.
    """

    schedule: str = "1f1b"
    p: int = 4
    m: int = 8
    v: int = 2
    f: float | Sequence[float] = 10.0
    i: float | Sequence[float] = 10.0
    w: float | Sequence[float] = 10.0
    l: float = 0.0  # noqa: E741 (the letter of the address)
    k: int = 0
    rows: list[list[str]] | None = None
    stamp: Sequence[int] = field(default=())


def answers(request: Request) -> Iterator[Json]:
    """The traits to show, in one or two parts: the second adds what takes longer to find."""
    try:
        schedule = wanted(request)
        cost = cost_of(request, schedule)
        trace = simulate(lower(schedule), cost)
    except PipelabError as error:
        rows = request.rows or []
        yield {"message": str(error), "can_run": False, "marks": marked(rows, error), "path": ""}
        return
    lines = _lines(request, schedule, trace)
    found: Json = {"message": "\n".join(lines), "can_run": True, "marks": [], "path": _path(trace)}
    if request.rows is None or request.stamp:
        found["rows"] = schedule.tokens
    known = head(trace)
    if request.k:
        parts = schedule.num_stages // schedule.num_ranks * schedule.slices
        known["budget"] = request.k * parts
    yield {**found, "head": known, "data": packed(trace.events), "found": _found(schedule, request)}
    if line := _par(request, schedule, trace, cost):
        yield {"message": "\n".join([*lines, line])}


def replies(text: str) -> Iterator[str]:
    """``answers`` to a request in JSON, in JSON; bytes travel as base64."""
    for answer in answers(Request(**json.loads(text))):
        data = answer.get("data")
        if isinstance(data, bytes):
            answer["data"] = {"base64": base64.b64encode(data).decode("ascii")}
        yield json.dumps(answer)


def first_state() -> Json:
    """What the page shows before anything is asked: the first request's answers, and the choices.

    It is made where the page is built, so that a reader sees a schedule before Python is loaded.
    """
    state: Json = {"checked": 0, "stamp": [], "state": "idle", "live": False, "show": ["memory"]}
    for answer in answers(Request()):
        state |= answer
    choices = [
        {"name": name, "title": title_of(name), "chosen": builder.stages_per_rank is None}
        for name, builder in BUILDERS.items()
    ]
    return {**state, "choices": choices, "request": asdict(Request())}


def wanted(request: Request) -> Schedule:
    """The schedule that is asked for; one that is in the catalogue has its name."""
    if request.rows is None:
        if request.p * request.m * request.v > _MOST_TOKENS:
            raise ScheduleError("That is more than this page can show: choose fewer microbatches")
        return build(request.schedule, request.p, request.m, request.v)
    schedule = Schedule.from_tokens(request.rows, request.schedule)
    if request.stamp:
        schedule = stamped(schedule, *request.stamp[1:])
    name = recognise(schedule).name
    if name in BUILDERS and _built(name, schedule) == schedule.tokens:
        return replace(schedule, name=name)
    return replace(schedule, name=_OWN)


def _built(name: str, schedule: Schedule) -> list[list[str]]:
    """The tokens of the catalogue's schedule in the same sizes."""
    p, m = schedule.num_ranks, schedule.num_microbatches
    return build(name, p, m, schedule.num_stages // p).tokens


def _found(schedule: Schedule, request: Request) -> Json:
    """What the controls are to show; no schedule where it is the reader's own."""
    p, m = schedule.num_ranks, schedule.num_microbatches
    name = schedule.name if schedule.name in BUILDERS else ""
    chosen = name in BUILDERS and BUILDERS[name].stages_per_rank is None
    v = schedule.num_stages // p if chosen else request.v
    return {"schedule": name, "p": p, "m": m, "v": v}


def cost_of(request: Request, schedule: Schedule) -> Cost:
    """Seconds of each stage. Raises ScheduleError for a list of another length."""
    stages = max(1, len(schedule.stages_of(0)))

    def seconds(value: float | Sequence[float]) -> float | tuple[float, ...]:
        return (
            tuple(x / _MS for x in value) if isinstance(value, Sequence) else value / _MS / stages
        )

    f, i, w = seconds(request.f), seconds(request.i), seconds(request.w)
    cost = Cost(forward=f, backward_input=i, backward_weight=w, latency=request.l / _MS)
    cost.check_stages(schedule.num_stages)
    return cost


def _lines(request: Request, schedule: Schedule, trace: Trace) -> list[str]:
    sizes = number(schedule.num_ranks, "rank"), number(schedule.num_microbatches, "microbatch")
    took, bubble = time_text(trace.duration), percent(trace.bubble_fraction, 1)
    lines = [
        f"It can run: {', '.join(sizes)}, predicted {took}, bubble {bubble}.",
        held_text(schedule),
        _over_limit(request.k, schedule),
        longest_bubble(trace),
        f"Its order is {recognise(schedule)}.",
    ]
    return [*filter(None, lines)]


def _over_limit(limit: int, schedule: Schedule) -> str:
    over = [rank for rank, peak in enumerate(peak_activations(schedule)) if limit and peak > limit]
    if not over:
        return ""
    ranks = ", ".join(map(str, over))
    return f"Over the limit of {limit}: {'ranks' if over[1:] else 'rank'} {ranks}."


def _path(trace: Trace) -> str:
    """The critical path's computations, in order."""
    path = [link.event for link in critical_path(trace)]
    tokens = [f"{e.stage}{e.kind}{e.microbatch}" for e in path if e.kind in COMPUTE]
    sends = len(path) - len(tokens)
    return f"{number(len(tokens), 'action')}, {number(sends, 'message')}: {' → '.join(tokens)}"


def _par(request: Request, schedule: Schedule, trace: Trace, cost: Cost) -> str:
    """The best that is known within the limit, or with as much memory as this takes."""
    p, m = schedule.num_ranks, schedule.num_microbatches
    times = (request.f, request.i, request.w)
    whole = [value / _MS for value in times if not isinstance(value, Sequence)]
    lists = len(whole) < len(times)
    if p * m > _MOST_TO_SEARCH or schedule.slices > 1 or (lists and schedule.num_stages != p):
        return ""
    held = request.k or ceil(max(peak_activations(schedule)))
    if lists:
        found = _best(best_schedule, p, m, cost, held)
    else:
        found = _best(par, p, m, Cost(whole[0], whole[1], whole[2], cost.latency), held)
    return par_text(found, held, trace.duration)


@lru_cache(maxsize=64)
def _best(search: Callable[..., Best], p: int, m: int, cost: Cost, held: int) -> Best:
    """What a search finds: an edit that holds as much asks for the same again."""
    return search(p, m, cost, held)

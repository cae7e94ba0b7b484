"""The playground's answers: what its page asks of the schedules and the simulator, in the browser.

request   a schedule of the catalogue with its sizes, or rows of tokens; costs; a memory limit
answers   the traits that the editor shows, in parts: first the picture with its figures; then what
          the order is, its longest bubble and its critical path; the search for par comes last

A newer request takes over between two parts, and between two schedules that the search tries.
"""

import base64
import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import ceil

from pipelab.action import COMPUTE
from pipelab.errors import PipelabError, ScheduleError
from pipelab.schedules import Schedule, recognise
from pipelab.schedules.catalogue import BUILDERS, build, title_of
from pipelab.schedules.communication import lower
from pipelab.schedules.counts import peak_activations
from pipelab.schedules.recognition import Recognised
from pipelab.simulator import Best, Cost, simulate
from pipelab.simulator.frontier import searching_par
from pipelab.simulator.search import Searching, searching
from pipelab.simulator.stamp import stamped
from pipelab.trace import Trace, critical_path
from pipelab.widgets.data import head, packed
from pipelab.widgets.editor_text import held_text, longest_bubble, marked, par_text
from pipelab.words import number, percent, time_text

Json = dict[str, object]

_OWN = "your own schedule"
_MOST_TO_SEARCH = 256  # ranks x microbatches
_MOST_KEPT = 64  # what searches found
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
    """The traits to show, in parts: what is seen first comes first. An empty one only took time."""
    try:
        schedule = wanted(request)
        cost = cost_of(request, schedule)
        trace = simulate(lower(schedule), cost)
    except PipelabError as error:
        rows = request.rows or []
        yield {"message": str(error), "can_run": False, "marks": marked(rows, error), "path": ""}
        return
    lines = _figures(request, schedule, trace)
    found: Json = {"message": "\n".join(lines), "can_run": True, "marks": []}
    if request.rows is None or request.stamp:
        found["rows"] = schedule.tokens
    if schedule.name in BUILDERS:
        found["found"] = _found(schedule, request)
    yield {**found, **_picture(request, schedule, trace)}
    order = recognise(schedule)
    if schedule.name not in BUILDERS:
        yield from _renamed(request, replace(schedule, name=_name(schedule, order)), trace)
    lines += [longest_bubble(trace), f"Its order is {order}."]
    message = "\n".join(filter(None, lines))
    yield {"message": message, "path": _path(trace)}
    if line := (yield from _par(request, schedule, trace, cost)):
        yield {"message": f"{message}\n{line}"}


def _picture(request: Request, schedule: Schedule, trace: Trace) -> Json:
    known = head(trace)
    if request.k:
        known["budget"] = request.k * (schedule.num_stages // schedule.num_ranks) * schedule.slices
    return {"head": known, "data": packed(trace.events)}


def _renamed(request: Request, schedule: Schedule, trace: Trace) -> Iterator[Json]:
    """What the reader's own order turned out to be; a picture with its name where it has one."""
    if schedule.name in BUILDERS:
        trace = replace(trace, setting=replace(trace.setting, schedule=schedule.name))
        yield {**_picture(request, schedule, trace), "found": _found(schedule, request)}
    else:
        yield {"found": _found(schedule, request)}


def replies(text: str) -> Iterator[str]:
    """``answers`` to a request in JSON, in JSON; bytes travel as base64; an empty one is ""."""
    for answer in answers(Request(**json.loads(text))):
        if not answer:
            yield ""
            continue
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
    """The schedule that is asked for. Rows that are those of the schedule named have its name."""
    if request.rows is None:
        if request.p * request.m * request.v > _MOST_TOKENS:
            raise ScheduleError("That is more than this page can show: choose fewer microbatches")
        return build(request.schedule, request.p, request.m, request.v)
    schedule = Schedule.from_tokens(request.rows, _OWN)
    if request.stamp:
        schedule = replace(stamped(schedule, *request.stamp[1:]), name=_OWN)
    is_named = request.schedule in BUILDERS and _is(request.schedule, schedule)
    return replace(schedule, name=request.schedule) if is_named else schedule


def _name(schedule: Schedule, order: Recognised) -> str:
    """What rows of tokens are called: their name in the catalogue, if every token is as there."""
    is_known = order.name in BUILDERS and not order.is_own and _is(order.name, schedule)
    return order.name if order.name and is_known else _OWN


def _is(name: str, schedule: Schedule) -> bool:
    """Whether it is the catalogue's schedule of the same sizes."""
    p, m = schedule.num_ranks, schedule.num_microbatches
    v, rest = divmod(schedule.num_stages, max(1, p))
    try:
        there = build(name, p, m, v)
    except ScheduleError:
        return False  # that one has no such sizes
    return not rest and (there.ranks, there.overlaps) == (schedule.ranks, schedule.overlaps)


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


def _figures(request: Request, schedule: Schedule, trace: Trace) -> list[str]:
    sizes = number(schedule.num_ranks, "rank"), number(schedule.num_microbatches, "microbatch")
    took, bubble = time_text(trace.duration), percent(trace.bubble_fraction, 1)
    lines = [
        f"It can run: {', '.join(sizes)}, predicted {took}, bubble {bubble}.",
        held_text(schedule),
        _over_limit(request.k, schedule),
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


def _par(
    request: Request, schedule: Schedule, trace: Trace, cost: Cost
) -> Generator[Json, None, str]:
    """The best that is known within the limit, or with as much memory as this takes."""
    p, m = schedule.num_ranks, schedule.num_microbatches
    times = (request.f, request.i, request.w)
    whole = [value / _MS for value in times if not isinstance(value, Sequence)]
    lists = len(whole) < len(times)
    if p * m > _MOST_TO_SEARCH or schedule.slices > 1 or (lists and schedule.num_stages != p):
        return ""
    held = request.k or ceil(max(peak_activations(schedule)))
    if lists:
        found = yield from _best((p, m, cost, held), searching(p, m, cost, held))
    else:
        cost = Cost(whole[0], whole[1], whole[2], cost.latency)
        found = yield from _best((p, m, cost, held), searching_par(p, m, cost, held))
    return par_text(found, held, trace.duration)


_kept: dict[tuple[int, int, Cost, int], Best] = {}  # an edit that holds as much asks again


def _best(key: tuple[int, int, Cost, int], search: Searching) -> Generator[Json, None, Best]:
    """What a search finds. It stops between two of its steps, where nobody asks for the next."""
    if key not in _kept:
        while len(_kept) >= _MOST_KEPT:
            del _kept[next(iter(_kept))]
        _kept[key] = yield from _quiet(search)
    return _kept[key]


def _quiet(search: Searching) -> Generator[Json, None, Best]:
    """Its steps, as parts of an answer that have nothing to show."""
    while True:
        try:
            next(search)
        except StopIteration as end:
            best: Best = end.value
            return best
        yield {}

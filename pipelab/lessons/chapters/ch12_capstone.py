"""Lesson 12, the capstone: the learner chooses a plan, and locates the ranks of torchrun in it.

Pipelines within replicas, and what each of the two costs: Narayanan et al. 2021 (arXiv 2104.04473,
section 3). The average of gradients in a ring: Patarasuk and Yuan 2009.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch

from pipelab.errors import RankOutOfMemory
from pipelab.lessons import plan_run, recorded
from pipelab.lessons.answer_process import Function
from pipelab.lessons.chapters import Chapter
from pipelab.lessons.chapters.ch12_draws import GRIDS, JOBS, fitting, least_time
from pipelab.lessons.chapters.ch12_questions import QUESTIONS
from pipelab.lessons.comparing import OtherForm, ask, name_of, whole
from pipelab.lessons.exercise import Cases, Exercise, each, equal
from pipelab.lessons.plan_run import MACHINE, the_model
from pipelab.lessons.plans import SCHEDULES, Layer, Machine, Model, Plan, memory, plans, seconds
from pipelab.lessons.results import Result, Shown
from pipelab.lessons.schedule_answers import of_each_rank
from pipelab.lessons.torch_run import run_on_torch
from pipelab.lessons.written import short
from pipelab.words import number, percent

_CHOOSE = "a function choose(machine, model, budget): Plan(replicas, sizes, schedule, microbatches)"
_LOCATE = (
    "a function locate(rank, replicas, sizes): a dict with stage, layers, pp_group and dp_group"
)
_SLOWER = 1.05  # how many times as long as the best is good enough
BUDGETS = {"4 MB on each rank": 4_000_000, "2.2 MB on each rank": 2_200_000}
_ROOM = 8_000_000  # bytes: every plan fits
_FORM = "a dict with stage, layers, pp_group and dp_group"

# ------------------------------------------------------------------------------ 12.1, choose


def _judge_choose(function: Function, seed: int) -> Iterator[Result | Shown]:
    tried = yield from each(function, _jobs(), _compare_choice, JOBS, seed)
    if tried.right:
        chosen = map(_plan, tried.values)
        for (name, budget), plan in zip(BUDGETS.items(), chosen, strict=False):
            yield from _train(name, plan, budget)


def _jobs() -> Cases:
    """The named cases: the lesson's own model first, and then other machines."""
    model = the_model()
    alike = [Layer(0.001, 50_000, 20_000, 2_000)] * 6
    large = [*alike[1:], alike[0]._replace(weights=400_000)]
    keep_most = [alike[0]._replace(kept=150_000)] * 2
    keep_little = alike[0]._replace(kept=2_000)
    distant, small = Machine(3, 0.0, 0.03, 1e9), Model(6, [Layer(0.001, 20_000, 50_000, 4_000)] * 3)
    heavy = Model(8, [small.layers[0]._replace(weights=200_000)] * 4)
    return {
        **{name: (MACHINE, model, budget) for name, budget in BUDGETS.items()},
        "room for every plan": (MACHINE, model, _ROOM),
        "slow links": (MACHINE._replace(bandwidth=5e6), model, _ROOM),
        "far links": (MACHINE._replace(latency=0.02, bandwidth=1e7), model, _ROOM),
        "a start of 10 ms": (MACHINE._replace(start=0.01), model, 3_000_000),
        "one rank": (Machine(1, 0.001, 0.0, 1e9), model, 5_000_000),
        "a large last layer": (Machine(2, 0.0, 0.001, 1e8), Model(8, large), 1_450_000),
        "3 ranks, 6 layers, 9 rows": (Machine(3, 0.0, 0.001, 1e8), Model(9, alike), 800_000),
        "two first layers that keep most": (
            Machine(3, 0.0, 0.001, 1e8),
            Model(8, [*keep_most, *[keep_little] * 5]),
            1_100_000,
        ),
        "a budget for one plan, to the byte": (distant, small, 330_000),
        "one byte too few for it": (distant, small, 329_999),
        "slow and far links": (Machine(4, 0.0, 0.03, 2e6), heavy, 1_060_800),
    }


def _plan(value: object) -> Plan:
    """The plan of an answer. Raises OtherForm."""
    form = "Plan(replicas, sizes, schedule, microbatches), one plan"
    if isinstance(value, dict) and {*value} == {*Plan._fields}:
        value = [_listed(value[name]) for name in Plan._fields]
    if not isinstance(value, list) or len(value) != len(Plan._fields):
        raise OtherForm(form)
    replicas, sizes, schedule, microbatches = value
    ask(sizes, list, f"{form}, whose sizes are a list: how many layers each stage has")
    ask(schedule, str, f"{form}, whose schedule is a name: one of SCHEDULES")
    plan = Plan(_number(replicas), [*map(_number, sizes)], schedule, _number(microbatches))
    if not all(n > 0 for n in (plan.replicas, plan.microbatches, *plan.sizes)):
        raise OtherForm(f"{form}, with numbers from 1 on: each stage has a layer")
    return plan


def _listed(value: object) -> object:
    """A tensor or an array, which a dict holds by name, as lists or a number."""
    return value.tolist() if isinstance(value, torch.Tensor) else value


def _number(value: object) -> int:
    """A whole number, whatever kind of number it came as. Raises OtherForm."""
    found = whole(value)
    ask(found, int, "a Plan with whole numbers of replicas, layers and microbatches")
    return cast(int, found)


def _compare_choice(
    name: str, value: object, machine: Machine, model: Model, budget: int
) -> Result:
    plan = _plan(value)
    expected = f"fits in {budget:,} bytes, within {percent(_SLOWER - 1)} of the best"
    if hint := _misfit(plan, machine, model):
        return Result(name, expected, str(plan), False, hint)
    if (most := max(memory(model, plan))) > budget:
        hint = _too_large(plan, machine, model, budget)
        return Result(name, expected, f"{plan}: {most:,.0f} bytes", False, hint)
    times = seconds(machine, model, plan) / least_time(machine, model, budget)
    is_good = times <= _SLOWER
    hint = "" if is_good else _slow(plan, machine, model, budget)
    return Result(name, expected, f"{plan}: {times:.2f} times as long", is_good, hint)


def _too_large(plan: Plan, machine: Machine, model: Model, budget: int) -> str:
    """What to do about a plan that does not fit."""
    fits = [p for p in fitting(machine, model, budget) if p.replicas == plan.replicas]
    if fits and all(other.sizes != plan.sizes for other in fits):
        return (
            "no plan with this cut fits: cut also by bytes, those of a layer's weights and those "
            "that F keeps"
        )
    return "drop the plans whose fullest rank holds more: max(memory(model, plan)) > budget"


def _slow(plan: Plan, machine: Machine, model: Model, budget: int) -> str:
    """Which of its decisions has to be another one, at the least."""
    replicas = [other for other in plans(machine, model) if other.replicas == plan.replicas]
    numbers = {other.microbatches for other in replicas}
    cuts = {tuple(other.sizes) for other in replicas}
    changes = {
        "with another schedule this plan is faster, and fits: try all of SCHEDULES": [
            plan._replace(schedule=name) for name in SCHEDULES
        ],
        "with other microbatches this plan is faster, and fits: try all numbers that divide "
        "a replica's rows": [plan._replace(microbatches=m) for m in numbers],
        "with another cut this plan is faster, and fits: cut by the layers' seconds, and also by "
        "their bytes": [plan._replace(sizes=[*sizes]) for sizes in cuts],
        "a faster plan of as many replicas fits: try each cut with each schedule and each number "
        "of microbatches": replicas,
    }
    best = least_time(machine, model, budget)
    good = [
        other
        for other in fitting(machine, model, budget)
        if seconds(machine, model, other) <= _SLOWER * best
    ]
    if good and all(max(memory(model, other)) == budget for other in good):
        return "a faster plan holds exactly the budget: at most that many bytes, not fewer"
    for hint, others in changes.items():
        fits = [other for other in others if max(memory(model, other)) <= budget]
        if any(seconds(machine, model, other) <= _SLOWER * best for other in fits):
            return hint
    return "with other replicas a faster plan fits: try all numbers that divide the ranks"


def _misfit(plan: Plan, machine: Machine, model: Model) -> str:
    """Why it is no plan for them, or nothing."""
    ranks, layers = plan.replicas * len(plan.sizes), len(model.layers)
    if ranks != machine.ranks:
        return f"replicas × stages = {ranks}, but the machine has {number(machine.ranks, 'rank')}"
    if sum(plan.sizes) != layers:
        return f"the stages have {sum(plan.sizes)} layers, the model has {layers}"
    if plan.schedule not in SCHEDULES:
        return f"the schedules are {', '.join(SCHEDULES)}"
    if model.rows % (plan.replicas * plan.microbatches):
        return f"replicas times microbatches divide the {number(model.rows, 'row')}"
    return ""


def _train(name: str, plan: Plan, budget: int) -> Iterator[Result | Shown]:
    """The plan on four real ranks, beside one process."""
    row = f"{name}, run"
    try:
        run = plan_run.run(plan, budget=budget)
    except RankOutOfMemory as error:
        hint = "what did memory() say of the fullest rank?"
        yield Result(f"{row}: memory", f"at most {budget:,}", str(error), False, hint)
        return
    most = max(run.held)
    yield Result(f"{row}: memory", f"at most {budget:,}", f"{most:,}", most <= budget)
    same, whole_model, _ = run.parameters
    good = f"{whole_model} of {whole_model} as in one process"
    yield equal(f"{row}: parameters", good, f"{same} of {whole_model} as in one process")
    first, *_, last = run.losses
    yield Result(f"{row}: loss", f"below {first:.3f}", f"{last:.3f}", last < first)
    yield equal(f"{row}: processes left", 0, run.left)
    yield recorded.timed(f"{row}: over predicted", run.seconds, run.on_paper_seconds, "plan")
    yield Shown(f"{name}: {plan}", run.trace)


# -------------------------------------------------------------------------------- 12.2, locate


def _judge_locate(function: Function, seed: int) -> Iterator[Result | Shown]:
    cases: Cases = {
        "one pipeline of 4 stages": (1, [2, 2, 2, 2]),
        "2 replicas of 2 stages": (2, [5, 3]),
        "4 replicas of the whole model": (4, [8]),
        "3 replicas of 4 stages": (3, [3, 2, 2, 1]),
        "one rank": (1, [8]),
    }
    tried = yield from each(_whole_grid(function), cases, _compare_places, GRIDS, seed)
    if tried.right:
        yield from _on_torch(_places(tried.values[1]))


def _whole_grid(function: Function) -> Function:
    """The places of all ranks, from the learner's function of one."""

    def places(replicas: int, sizes: list[int]) -> list[object]:
        ranks = replicas * len(sizes)
        return of_each_rank(lambda rank: function(rank, replicas, [*sizes]), ranks)

    def as_written(replicas: int, sizes: list[int]) -> str:
        ranks = replicas * len(sizes)
        return f"[{name_of(function)}(rank, {replicas}, {sizes}) for rank in range({ranks})]"

    setattr(places, "as_written", as_written)  # noqa: B010 - a function has no such attribute
    return places


class _Place(NamedTuple):
    """Of one rank."""

    stage: int
    layers: list[int]
    pp_group: list[int]
    dp_group: list[int]


def _places(value: object) -> list[_Place]:
    """The places of an answer, one for each rank. Raises OtherForm."""
    ask(value, list, _FORM)
    return [_place(rank, place) for rank, place in enumerate(cast(list[object], value))]


def _place(rank: int, value: object) -> _Place:
    if value is None:
        raise OtherForm(f"{_FORM}; for rank {rank} it returned None: a path without return?")
    ask(value, dict, _FORM)
    place = cast(dict[str, object], value)
    if missing := [key for key in _Place._fields if key not in place]:
        raise OtherForm(f"{_FORM}; for rank {rank} it has no {', '.join(missing)}")
    found = {key: _ints(place[key]) for key in _Place._fields}
    ask(found["stage"], int, f"{_FORM}, where stage is a whole number")
    for key in _Place._fields[1:]:
        ask(found[key], [int], f"{_FORM}, where {key} is a list of whole numbers")
    return _Place(**found)  # type: ignore[arg-type]


def _ints(value: object) -> object:
    value = _listed(value)
    return [*map(whole, value)] if isinstance(value, list) else whole(value)


def _compare_places(name: str, value: object, replicas: int, sizes: list[int]) -> Result:
    """By what must hold: how ranks are numbered in the grid is the learner's choice."""
    places = _places(value)
    expected = f"{replicas} x {len(sizes)}, one pp group and one dp group each"
    for rank, place in enumerate(places):
        if hint := _misplaced(rank, place, places, replicas, sizes):
            got = f"rank {rank}: {short(place._asdict())}"
            return Result(name, expected, got, False, hint)
    return Result(name, expected, expected, True)


def _misplaced(
    rank: int, place: _Place, places: Sequence[_Place], replicas: int, sizes: Sequence[int]
) -> str:
    """What is wrong with a rank's place, or nothing."""
    stage, layers, pp_group, dp_group = place
    ranks = range(len(places))
    if not {*pp_group, *dp_group} <= {*ranks}:
        return f"with {replicas} x {len(sizes)} ranks are numbered from 0 to {len(places) - 1}"
    if len({*pp_group}) != len(pp_group) or len(pp_group) != len(sizes):
        return f"a pp group has a rank for each stage: {len(sizes)}"
    if stage not in range(len(sizes)) or pp_group[stage] != rank:
        return "a rank is in its own pp group, at the place of its stage: pp_group[stage] == rank"
    if any(places[other].pp_group != pp_group for other in pp_group):
        return "all ranks of a pipeline name the same pp group, in the order of the stages"
    if layers != [sum(sizes[:stage]), sum(sizes[: stage + 1])]:
        has = f"stage {stage} of {sizes} has {number(sizes[stage], 'layer')}"
        return f"layers: the number of the first one, and of the one after the last; {has}"
    wanted = [other for other in ranks if places[other].stage == stage]
    if sorted(dp_group) != wanted or len(dp_group) != replicas:
        return "a dp group has all ranks with the same stage, itself too: they average gradients"
    return ""


def _on_torch(places: Sequence[_Place]) -> Iterator[Result | Shown]:
    """The learner's grid under torchrun, by PyTorch's own runtime."""
    run = run_on_torch(Plan(2, [5, 3], "1f1b", 4), [place._asdict() for place in places])
    same, everything, _ = run.parameters
    good = f"{everything} of {everything} as in one process"
    yield equal("under torchrun: parameters", good, f"{same} of {everything} as in one process")
    first, *_, last = run.losses
    yield Result("under torchrun: loss", f"below {first:.3f}", f"{last:.3f}", last < first)


CHAPTER = Chapter(
    {
        "12.1": Exercise(
            "choose a plan",
            _CHOOSE,
            _judge_choose,
            (
                "Four loops: replicas that divide the ranks; cuts of the layers into ranks / "
                "replicas stages; schedules; microbatches that divide a replica's rows. Collect "
                "every Plan that fits into the budget.",
                "balance(numbers, stages) cuts any numbers evenly. Cut by the layers' seconds, "
                "and also by their bytes, 3 * weights + rows of a microbatch * kept: a budget "
                "may be too tight for the first cut.",
                "max(memory(model, plan)) is compared with the budget. Of the plans that are "
                "left, min(..., key=...) by seconds(machine, model, plan).",
            ),
            JOBS,
            may_use_pipelab=True,
        ),
        "12.2": Exercise(
            "locate the ranks of torchrun",
            _LOCATE,
            _judge_locate,
            (
                "Draw the grid: a row for each replica, a column for each stage, and write the "
                "ranks into it, row by row. In which row and column is rank 5 of 3 x 4?",
                "divmod(rank, number of stages) gives both. The row is the pp group, the column "
                "the dp group.",
                "The row starts at replica * p; the column has the ranks stage, stage + p, and so "
                "on. The layers of a stage begin after those of all stages before it.",
            ),
            GRIDS,
        ),
    },
    QUESTIONS,
)

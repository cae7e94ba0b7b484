"""Lesson 12, the capstone: the learner chooses a plan, and locates the ranks of torchrun in it.

Pipelines within replicas, and what each of the two costs: Narayanan et al. 2021 (arXiv 2104.04473,
section 3). The average of gradients in a ring: Patarasuk and Yuan 2009.
"""

from collections.abc import Iterator, Sequence

import torch

from pipelab.errors import RankOutOfMemory
from pipelab.lessons import plan_run, recorded
from pipelab.lessons.answer_process import Function
from pipelab.lessons.chapters import Chapter
from pipelab.lessons.chapters.ch12_draws import GRIDS, JOBS, least_time
from pipelab.lessons.chapters.ch12_questions import QUESTIONS
from pipelab.lessons.comparing import name_of, whole
from pipelab.lessons.exercise import Cases, Exercise, each, equal
from pipelab.lessons.plan_run import MACHINE, the_model
from pipelab.lessons.plans import SCHEDULES, Layer, Machine, Model, Plan, memory, seconds
from pipelab.lessons.results import Result, Shown
from pipelab.lessons.torch_run import run_on_torch
from pipelab.lessons.written import short
from pipelab.words import number

_CHOOSE = "a function choose(machine, model, budget): Plan(replicas, sizes, schedule, microbatches)"
_LOCATE = (
    "a function locate(rank, replicas, sizes): a dict with stage, layers, pp_group and dp_group"
)
_SLOWER = 1.05  # how many times as long as the best is good enough
BUDGETS = {"4 MB on each rank": 4_000_000, "2.2 MB on each rank": 2_200_000}
_ROOM = 8_000_000  # bytes: every plan fits
_KEYS = ("stage", "layers", "pp_group", "dp_group")

# ------------------------------------------------------------------------------ 12.1, choose


def _judge_choose(function: Function, seed: int) -> Iterator[Result | Shown]:
    tried = yield from each(function, _jobs(), _compare_choice, JOBS, seed)
    if tried.right:
        plans = map(_plan, tried.values)
        for (name, budget), plan in zip(BUDGETS.items(), plans, strict=False):
            yield from _train(name, plan, budget)


def _jobs() -> Cases:
    """The named cases: the lesson's own model first, and then other machines."""
    model = the_model()
    alike = [Layer(0.001, 50_000, 20_000, 2_000)] * 6
    large = [*alike[1:], alike[0]._replace(weights=400_000)]
    return {
        **{name: (MACHINE, model, budget) for name, budget in BUDGETS.items()},
        "room for every plan": (MACHINE, model, _ROOM),
        "slow links": (MACHINE._replace(bandwidth=5e6), model, _ROOM),
        "far links": (MACHINE._replace(latency=0.02, bandwidth=1e7), model, _ROOM),
        "a start of 10 ms": (MACHINE._replace(start=0.01), model, 3_000_000),
        "one rank": (Machine(1, 0.001, 0.0, 1e9), model, 5_000_000),
        "a large last layer": (Machine(2, 0.0, 0.001, 1e8), Model(8, large), 1_450_000),
        "3 ranks, 6 layers, 9 rows": (Machine(3, 0.0, 0.001, 1e8), Model(9, alike), 800_000),
    }


def _plan(value: object) -> Plan:
    if not isinstance(value, list):
        raise TypeError("not a plan")
    replicas, sizes, schedule, microbatches = value
    plan = Plan(whole(replicas), [whole(n) for n in sizes], schedule, whole(microbatches))  # type: ignore[arg-type, misc]
    counts = [plan.replicas, *plan.sizes, plan.microbatches]
    if not all(type(n) is int and n > 0 for n in counts):
        raise TypeError("not whole numbers from 1 on")
    return plan


def _compare_choice(
    name: str, value: object, machine: Machine, model: Model, budget: int
) -> Result:
    plan = _plan(value)
    expected = f"fits in {budget:,} bytes, within {_SLOWER - 1:.0%} of the best"
    if hint := _misfit(plan, machine, model):
        return Result(name, expected, str(plan), False, hint)
    if (most := max(memory(model, plan))) > budget:
        hint = "drop the plans whose fullest rank holds more: max(memory(model, plan)) > budget"
        return Result(name, expected, f"{plan}: {most:,.0f} bytes", False, hint)
    times = seconds(machine, model, plan) / least_time(machine, model, budget)
    hint = "a faster plan fits: are all replicas, cuts, schedules and microbatches tried?"
    return Result(name, expected, f"{plan}: {times:.2f} times as long", times <= _SLOWER, hint)


def _misfit(plan: Plan, machine: Machine, model: Model) -> str:
    """Why it is no plan for them, or nothing."""
    ranks, layers = plan.replicas * len(plan.sizes), len(model.layers)
    if ranks != machine.ranks:
        return f"replicas times stages are {ranks}: use all ranks, {machine.ranks}"
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
        return [function(rank, replicas, sizes) for rank in range(replicas * len(sizes))]

    def as_written(replicas: int, sizes: list[int]) -> str:
        ranks = replicas * len(sizes)
        return f"[{name_of(function)}(rank, {replicas}, {sizes}) for rank in range({ranks})]"

    setattr(places, "as_written", as_written)  # noqa: B010 - a function has no such attribute
    return places


def _places(value: object) -> list[dict[str, object]]:
    if not isinstance(value, list) or not all(isinstance(place, dict) for place in value):
        raise TypeError("not a dict for each rank")
    return [{key: _ints(place[key]) for key in _KEYS} for place in value]


def _ints(value: object) -> object:
    if isinstance(value, torch.Tensor):  # what a dict holds by name stays one
        value = value.tolist()
    return [*map(whole, value)] if isinstance(value, list) else whole(value)


def _compare_places(name: str, value: object, replicas: int, sizes: list[int]) -> Result:
    """By what must hold: how ranks are numbered in the grid is the learner's choice."""
    places = _places(value)
    expected = f"{replicas} x {len(sizes)}, one pp group and one dp group each"
    for rank, place in enumerate(places):
        if hint := _misplaced(rank, place, places, replicas, sizes):
            return Result(name, expected, f"rank {rank}: {short(place)}", False, hint)
    return Result(name, expected, expected, True)


def _misplaced(
    rank: int, place: dict[str, object], places: Sequence[dict[str, object]], replicas: int,
    sizes: Sequence[int],
) -> str:  # fmt: skip
    """What is wrong with a rank's place, or nothing."""
    stage, layers, pp_group, dp_group = (place[key] for key in _KEYS)
    if not isinstance(pp_group, list) or not isinstance(dp_group, list):
        return "pp_group and dp_group are lists of ranks"
    ranks = range(len(places))
    if not {*pp_group, *dp_group} <= {*ranks}:
        return f"ranks are numbered from 0 to {len(places) - 1}"
    if len({*pp_group}) != len(pp_group) or len(pp_group) != len(sizes):
        return f"a pp group has a rank for each stage: {len(sizes)}"
    if type(stage) is not int or stage not in range(len(sizes)) or pp_group[stage] != rank:
        return "a rank is in its own pp group, at the place of its stage: pp_group[stage] == rank"
    if any(places[other]["pp_group"] != pp_group for other in pp_group):
        return "all ranks of a pipeline name the same pp group, in the order of the stages"
    if layers != [sum(sizes[:stage]), sum(sizes[: stage + 1])]:
        return f"stage {stage} has {number(sizes[stage], 'layer')}: its first one, and the end"
    wanted = [other for other in ranks if places[other]["stage"] == stage]
    if sorted(dp_group) != wanted or len(dp_group) != replicas:
        return "a dp group has all ranks with the same stage, itself too: they average gradients"
    return ""


def _on_torch(places: Sequence[dict[str, object]]) -> Iterator[Result | Shown]:
    """The learner's grid under torchrun, by PyTorch's own runtime."""
    run = run_on_torch(Plan(2, [5, 3], "1f1b", 4), places)
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

"""Answers to lesson 12 that must fail, each with the result that has to say so."""

from itertools import accumulate

from pipelab.lessons.plans import SCHEDULES, Plan, memory, seconds
from pipelab.partition import balance


def divisors(n, most=16):
    return [d for d in range(1, min(n, most) + 1) if n % d == 0]


def cuts(model, p, rows, by=("seconds", "bytes")):
    costs = {
        "weights": [layer.weights for layer in model.layers],
        "seconds": [layer.seconds for layer in model.layers],
        "bytes": [3 * layer.weights + rows * layer.kept for layer in model.layers],
        "numbers": [1 for _ in model.layers],
    }
    return [balance(costs[name], p) for name in by]


def every(machine, model, by=("seconds", "bytes"), schedules=SCHEDULES, replicas=None):
    for r in replicas or divisors(machine.ranks):
        p = machine.ranks // r
        if p > len(model.layers) or model.rows % r or machine.ranks % r:
            continue
        for m in divisors(model.rows // r):
            for sizes in cuts(model, p, model.rows / r / m, by):
                for schedule in schedules:
                    yield Plan(r, sizes, schedule, m)


def fitting(plans, model, budget, of=max):
    return [plan for plan in plans if of(memory(model, plan)) <= budget]


def fastest(plans, machine, model):
    return min(plans, key=lambda plan: seconds(machine, model, plan))


def no_budget(machine, model, budget):
    return fastest(every(machine, model), machine, model)


def pipelines_only(machine, model, budget):
    plans = every(machine, model, replicas=[1])
    return fastest(fitting(plans, model, budget), machine, model)


def replicas_only(machine, model, budget):
    return fastest(every(machine, model, replicas=[machine.ranks]), machine, model)


def the_first_that_fits(machine, model, budget):
    return fitting(every(machine, model), model, budget)[0]


def the_smallest(machine, model, budget):
    return min(every(machine, model), key=lambda plan: max(memory(model, plan)))


def equal_numbers_of_layers(machine, model, budget):
    plans = every(machine, model, by=("numbers",))
    return fastest(fitting(plans, model, budget), machine, model)


def by_seconds_alone(machine, model, budget):
    plans = every(machine, model, by=("seconds",))
    return fastest(fitting(plans, model, budget), machine, model)


def by_seconds_and_weights(machine, model, budget):
    plans = [*every(machine, model, by=("seconds", "weights"))]
    return fastest(fitting(plans, model, budget) or plans, machine, model)


def one_f_one_b_alone(machine, model, budget):
    plans = every(machine, model, schedules=("1f1b",))
    return fastest(fitting(plans, model, budget), machine, model)


def whole_batches(machine, model, budget):
    plans = [plan for plan in every(machine, model) if plan.microbatches == 1]
    return fastest(fitting(plans, model, budget) or plans, machine, model)


def as_many_microbatches_as_possible(machine, model, budget):
    plans = fitting(every(machine, model), model, budget)
    most = max(plan.replicas * plan.microbatches for plan in plans)
    plans = [plan for plan in plans if plan.replicas * plan.microbatches == most]
    return fastest(plans, machine, model)


def first_rank_alone(machine, model, budget):
    plans = fitting(every(machine, model), model, budget, of=lambda held: held[0])
    return fastest(plans, machine, model)


def on_average(machine, model, budget):
    plans = fitting(every(machine, model), model, budget, of=lambda held: sum(held) / len(held))
    return fastest(plans, machine, model)


def averages_are_free(machine, model, budget):
    plans = fitting(every(machine, model), model, budget)
    return fastest(plans, machine._replace(bandwidth=1e12), model)


def starts_are_free(machine, model, budget):
    plans = fitting(every(machine, model), model, budget)
    return fastest(plans, machine._replace(start=0.0), model)


def messages_are_free(machine, model, budget):
    plans = fitting(every(machine, model), model, budget)
    return fastest(plans, machine._replace(latency=0.0), model)


def layers_take_equally_long(machine, model, budget):
    even = model._replace(layers=[layer._replace(seconds=0.001) for layer in model.layers])
    return fastest(fitting(every(machine, even), even, budget), machine, even)


def always_eight(machine, model, budget):
    return fastest(fitting(every(machine, model), model, budget), machine, model)._replace(
        microbatches=8
    )


def half_of_the_ranks(machine, model, budget):
    few = machine._replace(ranks=max(1, machine.ranks // 2))
    return fastest(fitting(every(few, model), model, budget) or every(few, model), few, model)


def number_of_stages(machine, model, budget):
    plan = fastest(fitting(every(machine, model), model, budget), machine, model)
    return plan._replace(sizes=len(plan.sizes))


def a_stage_without_layers(machine, model, budget):
    plan = fastest(fitting(every(machine, model), model, budget), machine, model)
    return plan._replace(sizes=[*plan.sizes, 0])


def half_a_microbatch(machine, model, budget):
    plan = fastest(fitting(every(machine, model), model, budget), machine, model)
    return plan._replace(microbatches=plan.microbatches + 0.5)


# -------------------------------------------------------------------------------------- 12.2


def made(rank, replicas, sizes, replica, stage, **other):
    p = len(sizes)
    ends = [0, *accumulate(sizes)]
    place = {
        "stage": stage,
        "layers": [ends[stage], ends[stage + 1]],
        "pp_group": [replica * p + i for i in range(p)],
        "dp_group": [i * p + stage for i in range(replicas)],
    }
    return place | other


def right(rank, replicas, sizes, **other):
    return made(rank, replicas, sizes, *divmod(rank, len(sizes)), **other)


def stage_is_rank(rank, replicas, sizes):
    """One pipeline over all ranks."""
    return right(rank, replicas, sizes) | {"stage": rank}


def divided_by_replicas(rank, replicas, sizes):
    stage, replica = divmod(rank, replicas)
    return made(rank, replicas, sizes, replica, stage)


def groups_exchanged(rank, replicas, sizes):
    place = right(rank, replicas, sizes)
    return place | {"pp_group": place["dp_group"], "dp_group": place["pp_group"]}


def averages_with_nobody(rank, replicas, sizes):
    return right(rank, replicas, sizes, dp_group=[rank])


def averages_without_itself(rank, replicas, sizes):
    place = right(rank, replicas, sizes)
    return place | {"dp_group": [r for r in place["dp_group"] if r != rank]}


def averages_with_everybody(rank, replicas, sizes):
    return right(rank, replicas, sizes, dp_group=[*range(replicas * len(sizes))])


def two_replicas(rank, replicas, sizes):
    p = len(sizes)
    stage = rank % p
    return right(rank, replicas, sizes, dp_group=[stage, stage + p][:replicas])


def equal_layers(rank, replicas, sizes):
    p, layers = len(sizes), sum(sizes)
    stage = rank % p
    return right(rank, replicas, sizes, layers=[stage * layers // p, (stage + 1) * layers // p])


def last_layer_included(rank, replicas, sizes):
    first, end = right(rank, replicas, sizes)["layers"]
    return right(rank, replicas, sizes, layers=[first, end - 1])


def number_of_layers(rank, replicas, sizes):
    first, end = right(rank, replicas, sizes)["layers"]
    return right(rank, replicas, sizes, layers=[first, end - first])


def neighbours(rank, replicas, sizes):
    group = right(rank, replicas, sizes)["pp_group"]
    return right(rank, replicas, sizes, pp_group=[r for r in group if abs(r - rank) <= 1])


def first_pipeline(rank, replicas, sizes):
    return right(rank, replicas, sizes, pp_group=[*range(len(sizes))])


def backwards(rank, replicas, sizes):
    return right(rank, replicas, sizes, pp_group=right(rank, replicas, sizes)["pp_group"][::-1])


def from_one(rank, replicas, sizes):
    place = right(rank, replicas, sizes)
    groups = ("pp_group", "dp_group")
    return place | {name: [r + 1 for r in place[name]] for name in groups}


def without_dp_group(rank, replicas, sizes):
    place = right(rank, replicas, sizes)
    return {name: place[name] for name in ("stage", "layers", "pp_group")}


def stage_as_text(rank, replicas, sizes):
    return right(rank, replicas, sizes) | {"stage": str(rank % len(sizes))}


def stages_of_the_first_replica(rank, replicas, sizes):
    """A path without return."""
    return right(rank, replicas, sizes) if rank < len(sizes) else None


def later_stages(rank, replicas, sizes):
    group = right(rank, replicas, sizes)["pp_group"]
    return right(rank, replicas, sizes, pp_group=[r for r in group if r >= rank])


TIGHT, TIGHTER, ROOM = "4 MB on each rank", "2.2 MB on each rank", "room for every plan"
GRID, PIPE, COPIES = "2 replicas of 2 stages", "one pipeline of 4 stages", "3 replicas of 4 stages"


def less_than_the_budget(machine, model, budget):
    fits = [plan for plan in every(machine, model) if max(memory(model, plan)) < budget]
    return fastest(fits or fitting(every(machine, model), model, budget), machine, model)


def a_percent_over(machine, model, budget):
    return fastest(fitting(every(machine, model), model, 1.01 * budget), machine, model)


def a_percent_to_spare(machine, model, budget):
    fits = fitting(every(machine, model), model, 0.99 * budget)
    return fastest(fits or fitting(every(machine, model), model, budget), machine, model)


def never_gpipe(machine, model, budget):
    fits = fitting(every(machine, model, schedules=SCHEDULES[1:]), model, budget)
    return fastest(fits, machine, model)


def ten_replicas_at_most(rank, replicas, sizes):
    place = right(rank, replicas, sizes)
    return place | {"dp_group": place["dp_group"][:10]}


def ten_stages_at_most(rank, replicas, sizes):
    place = right(rank, replicas, sizes)
    return place | {"pp_group": place["pp_group"][:10]}


class CountsItsCalls:
    """It never looks at the rank that is asked for."""

    __name__ = "counts_its_calls"

    def __init__(self):
        self.grid, self.calls = None, 0

    def __call__(self, rank, replicas, sizes):
        if self.grid != (replicas, sizes):
            self.grid, self.calls = (replicas, [*sizes]), 0
        self.calls += 1
        return right((self.calls - 1) % (replicas * len(sizes)), replicas, sizes)


WRONG = {
    "12.1": [
        (no_budget, TIGHT),
        (a_percent_over, "one byte too few for it"),
        (a_percent_to_spare, "a budget for one plan, to the byte"),
        (never_gpipe, "slow and far links"),
        (pipelines_only, ROOM),
        (replicas_only, TIGHT),
        (the_first_that_fits, TIGHT),
        (the_smallest, ROOM),
        (equal_numbers_of_layers, TIGHT),
        (one_f_one_b_alone, TIGHT),
        (whole_batches, TIGHTER),
        (as_many_microbatches_as_possible, "a start of 10 ms"),
        (first_rank_alone, "a large last layer"),
        (averages_are_free, "slow links"),
        (always_eight, "3 ranks, 6 layers, 9 rows"),
        (by_seconds_and_weights, "two first layers that keep most"),
        (half_of_the_ranks, TIGHT),
        (on_average, TIGHT),
        (starts_are_free, "a start of 10 ms"),
        (messages_are_free, "far links"),
        (layers_take_equally_long, TIGHT),
    ],
    "12.2": [
        (stage_is_rank, GRID),
        (divided_by_replicas, GRID),
        (groups_exchanged, GRID),
        (averages_with_nobody, GRID),
        (averages_without_itself, GRID),
        (averages_with_everybody, PIPE),
        (two_replicas, COPIES),
        (equal_layers, GRID),
        (last_layer_included, PIPE),
        (number_of_layers, PIPE),
        (neighbours, PIPE),
        (first_pipeline, GRID),
        (backwards, PIPE),
        (from_one, PIPE),
    ],
}

FORGOT = {
    "12.1": [
        (less_than_the_budget, "at most that many bytes, not fewer"),
        (by_seconds_alone, "even in seconds fits nowhere"),
        (no_budget, "a tight budget"),
        (averages_are_free, "slow links"),
        (number_of_stages, "how many layers each stage has"),
        (a_stage_without_layers, "each stage has a layer"),
        (half_a_microbatch, "whole numbers of replicas, layers and microbatches"),
    ],
    "12.2": [
        (CountsItsCalls(), "see it in a cell"),
        (without_dp_group, "it has no dp_group"),
        (stage_as_text, "stage is a whole number"),
        (stages_of_the_first_replica, "a path without return"),
        (later_stages, "There: all ranks of a pipeline name the same pp group"),
        (two_replicas, "more than two replicas"),
        (ten_replicas_at_most, "more than ten replicas"),
        (ten_stages_at_most, "more than ten stages"),
        (equal_layers, "unequal numbers of layers"),
    ],
}

"""Traces for tests: recorded-like ones, made by hand from a prediction."""

import random

from pipelab.action import COMPUTE, Action, Kind
from pipelab.schedules import Schedule
from pipelab.schedules.communication import message_of
from pipelab.simulator import Cost, simulate
from pipelab.trace import Event, Memory, Setting, Trace


def recorded_like(schedule: Schedule, cost: Cost | None = None, seed: int = 0) -> Trace:
    """What real ranks would leave behind: jitter, WAIT, SEND, RECV, STEP, bytes and peers.

    Each action ends a little early; in the time won, its result is sent and a buffer is posted.
    """
    cost = cost or Cost(0.010, 0.010, 0.010, latency=0.001)
    chance = random.Random(seed)
    predicted = simulate(schedule, cost)
    events: list[Event] = []
    for rank in range(schedule.num_ranks):
        free = 0.0
        for e in (e for e in predicted.events if e.rank == rank and e.kind in COMPUTE):
            if free < e.start:
                events.append(Event(rank, Kind.WAIT, e.stage, e.microbatch, free, e.start))
            length = e.end - e.start
            end = e.start + length * chance.uniform(0.90, 0.97)
            kept = 1000 * (e.stage + 1) if e.kind is Kind.F else 0
            events.append(e._replace(end=end, bytes=kept))
            free = end
            if message := message_of(Action(e.stage, e.kind, e.microbatch), schedule):
                free = end + length * 0.01
                stage, kind, microbatch = message.send
                peer = message.destination
                events.append(Event(rank, kind, stage, microbatch, end, free, 256, peer))
                posted = kind.value.replace("SEND", "RECV")
                events.append(
                    Event(rank, Kind(posted), stage, microbatch, free, free + 2e-5, 0, peer)
                )
                free += 2e-5
        events.append(Event(rank, Kind.STEP, rank, None, free, free + 0.002))
    setting = Setting(
        schedule.name,
        schedule.num_ranks,
        schedule.num_microbatches,
        paced=str(cost),
        cpus=2,
        versions={"torch": "2.13.0"},
    )
    memory = tuple(Memory(400, 400, 800) for _ in range(schedule.num_ranks))
    return Trace(tuple(events), "recorded", setting, memory)


def two_stages_a_rank() -> Schedule:
    """Two ranks, four stages, the backward of stages 0 and 2 in halves."""
    first = "0F0 0F1 2F0 2F1 2I0 2I1 2W0 2W1 0I0 0I1 0W0 0W1"
    second = "1F0 1F1 3F0 3F1 3B0 3B1 1B0 1B1"
    return Schedule.from_tokens([first.split(), second.split()], "by hand")

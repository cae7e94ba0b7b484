"""Traces for tests: recorded-like ones, made by hand from a prediction."""

import random

from hypothesis import strategies as st

from pipelab.action import COMPUTE, Action, Kind
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.schedules.messages import message_of
from pipelab.simulator import Cost, simulate
from pipelab.trace import Event, Memory, Setting, Trace


def recorded_like(schedule: Schedule, cost: Cost | None = None, seed: int = 0) -> Trace:
    """What real ranks would leave behind: jitter, WAIT, SEND, RECV, STEP, bytes and peers.

    Each action ends a little early; in the time won, its result is sent and a buffer is posted.
    Each stage's first backward makes its gradients, and STEP its optimizer state.
    """
    cost = cost or Cost(0.010, 0.010, 0.010, latency=0.001)
    chance = random.Random(seed)
    predicted = computing_only(simulate(schedule, cost)).events
    messages = [message_of(Action(e.stage, e.kind, e.microbatch), schedule) for e in predicted]
    source = {message.recv: message.source for message in messages if message}
    free = dict.fromkeys(range(schedule.num_ranks), 0.0)
    gradients = {stage: 400 for stage in range(schedule.num_stages)}
    events: list[Event] = []

    def happens(rank, action, seconds, size=0, peer=None):
        start, free[rank] = free[rank], free[rank] + seconds
        stage, kind, microbatch = action
        events.append(Event(rank, kind, stage, microbatch, start, free[rank], size, peer))

    for e, message in zip(predicted, messages, strict=True):
        rank, action, length = e.rank, Action(e.stage, e.kind, e.microbatch), e.end - e.start
        recv = action._replace(kind=Kind.RECV_F if e.kind is Kind.F else Kind.RECV_B)
        if e.kind is not Kind.W and recv in source:
            happens(rank, recv, 2e-5, 256, source[recv])
            wait = action._replace(kind=Kind.WAIT)
            happens(rank, wait, e.start - free[rank], 0, source[recv])
        free[rank] = e.start
        kept = 1000 * (e.stage + 1) if e.kind is Kind.F else 0
        made = gradients.pop(e.stage, 0) if e.kind in (Kind.B, Kind.W) else 0
        happens(rank, action, length * chance.uniform(0.90, 0.97), kept + made)
        if message:
            happens(rank, message.send, length * 0.01, 256, message.destination)
    for rank in free:
        happens(rank, Action(rank, Kind.STEP), 0.002, 800)
    events.sort(key=lambda e: (e.rank, e.start))
    setting = Setting(
        schedule.name,
        schedule.num_ranks,
        schedule.num_microbatches,
        paced=str(cost),
        cpus=2,
        versions={"torch": "2.13.0"},
    )
    sizes = [400 * len(schedule.stages_of(rank)) for rank in range(schedule.num_ranks)]
    memory = tuple(Memory(size, size, 800) for size in sizes)
    return Trace(tuple(events), "recorded", setting, memory)


def with_messages(schedule: Schedule, cost: Cost, size: int = 0) -> Trace:
    """The prediction with what each message does: SEND until it arrives, WAIT where it is late."""
    predicted = simulate(schedule, cost)
    rows = {rank: [] for rank in range(schedule.num_ranks)}
    for e in predicted.events:
        if e.kind in COMPUTE:
            rows[e.rank].append(e)
    events = []
    for rank, row in rows.items():
        free = 0.0
        for e in row:
            if free < e.start:
                events.append(Event(rank, Kind.WAIT, e.stage, e.microbatch, free, e.start))
            events.append(e)
            free = e.end
            if message := message_of(Action(e.stage, e.kind, e.microbatch), schedule):
                _, kind, microbatch = message.send
                arrives, peer = e.end + cost.latency, message.destination
                events.append(Event(rank, kind, e.stage, microbatch, free, arrives, size, peer))
    return Trace(tuple(events), "predicted", predicted.setting)


times = st.sampled_from([0.5, 1.0, 1.5, 3.0])  # floats that add up exactly
latencies = st.sampled_from([0.0, 0.25, 1.0, 2.0])


@st.composite
def predictions(draw, names=tuple(BUILDERS)):
    """Any builder's schedule with unequal stages, any latency, and its messages."""
    name, p, m = draw(st.sampled_from(names)), draw(st.integers(1, 5)), draw(st.integers(1, 9))
    m = p * (1 + m // p) if name == "interleaved" else max(m, BUILDERS[name].fewest(p))
    schedule = build(name, p, m)
    per_stage = st.lists(times, min_size=schedule.num_stages, max_size=schedule.num_stages)
    cost = Cost(draw(per_stage), draw(per_stage), draw(per_stage), draw(latencies))
    return with_messages(schedule, cost)


def computing_only(trace: Trace) -> Trace:
    """The same trace without messages and waits."""
    events = tuple(e for e in trace.events if e.kind in COMPUTE)
    return Trace(events, trace.source, trace.setting, trace.memory)


def two_stages_a_rank() -> Schedule:
    """Two ranks, four stages, the backward of stages 0 and 2 in halves."""
    first = "0F0 0F1 2F0 2F1 2I0 2I1 2W0 2W1 0I0 0I1 0W0 0W1"
    second = "1F0 1F1 3F0 3F1 3B0 3B1 1B0 1B1"
    return Schedule.from_tokens([first.split(), second.split()], "by hand")

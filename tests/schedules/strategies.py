"""Random schedules: valid by construction, and mutated ones with an independent judge."""

import random
from collections import Counter

from hypothesis import strategies as st

from pipelab.action import Action, Kind
from pipelab.schedules import Schedule


@st.composite
def valid_schedules(draw):
    """Any placement of stages, any order that some execution could have had, B whole or halved."""
    p = draw(st.integers(1, 4))
    num_stages = p * draw(st.integers(1, 2))
    m = draw(st.integers(1, 4))
    rng = random.Random(draw(st.integers(0, 2**32)))
    homes = [*range(p), *(rng.randrange(p) for _ in range(num_stages - p))]
    rng.shuffle(homes)
    halves = {(s, i): rng.random() < 0.5 for s in range(num_stages) for i in range(m)}
    todo = set()
    for s in range(num_stages):
        for i in range(m):
            kinds = (Kind.F, Kind.I, Kind.W) if halves[s, i] else (Kind.F, Kind.B)
            todo |= {Action(s, kind, i) for kind in kinds}
    rows, done = [[] for _ in range(p)], set()
    while todo:
        ready = sorted(a for a in todo if can_run(a, done, num_stages))
        action = rng.choice(ready)
        todo.remove(action)
        done.add(action)
        rows[homes[action.stage]].append(action)
    return Schedule(tuple(map(tuple, rows)))


def can_run(action, done, num_stages):
    """The rules once more, in other words than the library's: this is the judge."""
    stage, kind, i = action
    forward_done = Action(stage, Kind.F, i) in done
    if kind is Kind.F:
        return stage == 0 or Action(stage - 1, Kind.F, i) in done
    if kind is Kind.W:
        return Action(stage, Kind.I, i) in done
    above = {Action(stage + 1, Kind.B, i), Action(stage + 1, Kind.I, i)} & done
    return forward_done and (stage == num_stages - 1 or bool(above))


def is_executable(schedule):
    """Try it: scan all ranks again and again until nothing moves."""
    rows = schedule.ranks
    if not rows or not all(rows):
        return False
    homes = {}
    for rank, row in enumerate(rows):
        for a in row:
            if homes.setdefault(a.stage, rank) != rank:
                return False
    num_stages, m = max(homes) + 1, max(a.microbatch for row in rows for a in row) + 1
    count = Counter(a for row in rows for a in row)
    for s in range(num_stages):
        for i in range(m):
            f, b, halves = (count[Action(s, k, i)] for k in (Kind.F, Kind.B, Kind.I))
            if f != 1 or b + halves != 1 or count[Action(s, Kind.W, i)] != halves:
                return False
    at, done, moved = [0] * len(rows), set(), True
    while moved:
        moved = False
        for rank, row in enumerate(rows):
            while at[rank] < len(row) and can_run(row[at[rank]], done, num_stages):
                done.add(row[at[rank]])
                at[rank] += 1
                moved = True
    return all(at[rank] == len(row) for rank, row in enumerate(rows))


@st.composite
def mutated_schedules(draw):
    """A valid schedule with one action dropped, doubled, moved, or two swapped."""
    rows = [list(row) for row in draw(valid_schedules()).ranks]
    rng = random.Random(draw(st.integers(0, 2**32)))
    row = rng.choice(rows)
    match draw(st.sampled_from(["drop", "double", "swap", "move", "move away"])):
        case "drop":
            row.pop(rng.randrange(len(row)))
        case "double":
            row.insert(rng.randrange(len(row) + 1), rng.choice(row))
        case "swap":
            i, j = rng.randrange(len(row)), rng.randrange(len(row))
            row[i], row[j] = row[j], row[i]
        case "move":
            action = row.pop(rng.randrange(len(row)))
            row.insert(rng.randrange(len(row) + 1), action)
        case "move away":
            action = row.pop(rng.randrange(len(row)))
            other = rng.choice(rows)
            other.insert(rng.randrange(len(other) + 1), action)
    return Schedule(tuple(map(tuple, rows)))

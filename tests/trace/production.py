"""Production-like jobs with known causes, in the form of ndtimeline, from another generator.

It shares nothing with the simulator: orders and times are made here, so that what ``diagnose``
says of a job, and what it says would change it, can be compared with the truth.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pipelab.schedules import Schedule

Item = tuple[str, int, int]  # kind "F", "B", "I" or "W"; chunk; microbatch
Seconds = Callable[[str, int, int], float]  # of a kind, a stage and a microbatch


def gpipe_order(p: int, m: int, v: int = 1) -> list[list[Item]]:
    """All forwards, then all backwards."""
    return [[(k, 0, i) for k in "FB" for i in range(m)] for _ in range(p)]


def one_f_one_b_order(p: int, m: int, v: int = 1) -> list[list[Item]]:
    """Megatron's 1F1B; with v > 1 its interleaved form (Narayanan et al. 2021, 2.2)."""
    total, rows = m * v, []
    for r in range(p):
        warmup = min(total, p - 1 - r if v == 1 else 2 * (p - r - 1) + (v - 1) * p)
        if v > 1 and m == p:
            warmup = total

        def at(k: int, kind: str) -> Item:
            chunk = k // p % v
            return kind, chunk if kind == "F" else v - 1 - chunk, k // (p * v) * p + k % p

        number = (lambda k, kind: (kind, 0, k)) if v == 1 else at
        row = [number(k, "F") for k in range(warmup)]
        for k in range(total - warmup):
            row += [number(warmup + k, "F"), number(k, "B")]
        row += [number(k, "B") for k in range(total - warmup, total)]
        rows.append(row)
    return rows


def order_of(schedule: Schedule) -> list[list[Item]]:
    """That of one of ours."""
    p = schedule.num_ranks
    return [[(a.kind.value, a.stage // p, a.microbatch) for a in row] for row in schedule.ranks]


@dataclass
class Job:
    """What a job is, and what makes it slow. Times in seconds.

    ``seconds(kind, stage, microbatch)`` is what an action takes before ``slow``: factors of
    (replica, rank); ``lengths(step, replica)`` gives a factor for each microbatch.
    """

    order: list[list[Item]]
    v: int = 1
    replicas: int = 1
    steps: int = 3
    first_step: int = 7
    forward: Sequence[float] = ()  # of each stage; 10 ms
    backward: float = 2.0  # of the forward
    latency: float = 2e-4
    gap: float = 2e-5
    jitter: float = 0.0
    slow: dict[tuple[int, int], float] = field(default_factory=dict)
    lengths: Callable[[int, int], Sequence[float]] | None = None
    is_v: bool = False
    alike: bool = False  # every microbatch takes the mean: the counterfactual of ``lengths``

    @property
    def p(self) -> int:
        return len(self.order)

    @property
    def m(self) -> int:
        return len({i for _, _, i in self.order[0]})

    def stage(self, rank: int, chunk: int) -> int:
        if self.is_v and chunk % 2:
            return (chunk + 1) * self.p - 1 - rank
        return chunk * self.p + rank

    def numbers(self) -> list[tuple[int, int]]:
        return [(self.first_step + s, d) for s in range(self.steps) for d in range(self.replicas)]

    def times(self, step: int, replica: int) -> list[list[tuple[Item, float, float]]]:
        """For each rank, what it ran from when to when."""
        seconds = self._seconds(step, replica)
        n, done, free, at = self.v * self.p, {}, [0.0] * self.p, [0] * self.p
        rows: list[list[tuple[Item, float, float]]] = [[] for _ in self.order]
        while any(at[r] < len(row) for r, row in enumerate(self.order)):
            before = list(at)
            for r, row in enumerate(self.order):
                while at[r] < len(row):
                    kind, chunk, i = row[at[r]]
                    s = self.stage(r, chunk)
                    need = None
                    if kind == "F" and s:
                        need = ("F", s - 1, i)
                    elif kind in "BI" and s < n - 1:
                        need = ("B", s + 1, i)
                    if need and need not in done:
                        break
                    came = 0.0
                    if need:
                        other, end = done[need]
                        came = end + (self.latency if other != r else 0.0)
                    start = max(free[r] + self.gap, came)
                    end = start + seconds[kind, s, i, r]
                    rows[r].append((row[at[r]], start, end))
                    done["B" if kind == "I" else kind, s, i] = r, end
                    free[r] = end
                    at[r] += 1
            assert at != before, "the order cannot run"
        return rows

    def duration(self, step: int, replica: int) -> float:
        rows = [x for row in self.times(step, replica) for x in row]
        return max(end for _, _, end in rows) - min(start for _, start, _ in rows)

    def bubble(self, step: int, replica: int) -> float:
        rows = self.times(step, replica)
        busy = sum(end - start for row in rows for _, start, end in row)
        return 1 - busy / self.p / self.duration(step, replica)

    def changed(self, **changes: object) -> "Job":
        """The counterfactual."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def _seconds(self, step: int, replica: int) -> dict[tuple[str, int, int, int], float]:
        chance = random.Random(f"{step} {replica}")
        lengths = list(self.lengths(step, replica)) if self.lengths else [1.0] * self.m
        if self.alike:
            lengths = [sum(lengths) / len(lengths)] * len(lengths)
        forward = self.forward or [0.01] * (self.v * self.p)
        halves = any(kind == "W" for row in self.order for kind, _, _ in row)
        found = {}
        for r, row in enumerate(self.order):
            for kind, chunk, i in row:
                s = self.stage(r, chunk)
                factor = 1.0 if kind == "F" else self.backward / (2 if halves else 1)
                noise = 1 + self.jitter * chance.uniform(-1, 1)
                slow = self.slow.get((replica, r), 1.0)
                found[kind, s, i, r] = forward[s] * factor * lengths[i] * noise * slow
        return found


NAMES = {"F": "forward-compute", "B": "backward-compute", "I": "backward-compute",
         "W": "backward-wgrad-compute"}  # fmt: skip
LANES = ("compute", "pp-comm", "tp-comm", "dp-comm", "misc")


def rows_of(
    job: Job,
    tensor: int = 1,
    first_rank: int = 0,
    first_microbatch: int | None = 0,
    named: bool = True,
    shifts: Sequence[float] = (),
    no_ops: bool = False,
    messages: bool = True,
    fused: bool = False,
    vescale: bool = False,
    skip: Callable[[int, int, int], bool] = lambda step, replica, rank: False,
) -> list[dict[str, object]]:
    """The rows of a file, as StragglerAnalysis' ``to_timeline`` writes them, in seconds order.

    ``first_microbatch``: None leaves the number out. ``no_ops``: messages that were recorded and
    not sent, as with several chunks a rank. ``shifts``: of each rank's clock. ``vescale``: as its
    own handler writes them, without numbers.
    """
    found: list[dict[str, object]] = []

    def add(
        name: str, rank: int, replica: int, lane: int, start: float, end: float, **args
    ) -> None:
        shift = shifts[rank] if shifts else 0.0
        job_rank = first_rank + (rank * job.replicas + replica) * tensor
        tid = 5 * job_rank + lane
        if vescale:
            tid = 10 * job_rank + lane
            args = {"rank": job_rank, "step": args["step"], "tp": 0, "pp": rank}
        found.append({"name": name, "cat": name, "pid": replica, "tid": tid,
                      "ts": (start + shift) * 1e6, "dur": (end - start) * 1e6, "ph": "X",
                      "args": args})  # fmt: skip

    later = 0.0
    for step, replica in job.numbers():
        ends = {}
        for rank, row in enumerate(job.times(step, replica)):
            if skip(step, replica, rank):
                continue
            count = dict.fromkeys(NAMES, 0)
            for (kind, chunk, i), start, end in row:
                start, end = start + later, end + later
                number = None if first_microbatch is None else i + first_microbatch
                add(NAMES[kind], rank, replica, 0, start, end, step=step, model_chunk=chunk,
                    mb_id=number, seq_id=count[kind])  # fmt: skip
                count[kind] += 1
                if messages:
                    _messages(add, job, rank, replica, step, (kind, chunk, i), start, end, no_ops,
                              fused)  # fmt: skip
                ends[rank] = end
        last = max(ends.values(), default=later)
        for rank in ends:
            add("grads-reduce-scatter", rank, replica, 3, last, last + 0.003, step=step,
                model_chunk=0, mb_id=-1, seq_id=0)  # fmt: skip
            add("optimizer", rank, replica, 0, last + 0.003, last + 0.005, step=step,
                model_chunk=-1, mb_id=-1, seq_id=0)  # fmt: skip
        if replica == job.replicas - 1:
            later += max(job.duration(step, d) for d in range(job.replicas)) + 0.02
    if named and not vescale:
        for replica in range(job.replicas):
            for rank in range(job.p):
                for lane, word in enumerate(LANES):
                    tid = 5 * (first_rank + (rank * job.replicas + replica) * tensor) + lane
                    name = f"PP rank {rank}, TP rank 0, {word}"
                    found.append({"name": "thread_name", "pid": replica, "tid": tid, "ph": "M",
                                  "args": {"name": name}})  # fmt: skip
    return found


def _messages(add, job, rank, replica, step, item, start, end, no_ops, fused) -> None:
    kind, chunk, _ = item
    stage, last = job.stage(rank, chunk), job.v * job.p - 1
    if kind == "W":
        return
    word = "forward" if kind == "F" else "backward"
    gets = stage > 0 if kind == "F" else stage < last
    gives = stage < last if kind == "F" else stage > 0
    none = {"step": step, "model_chunk": -1, "mb_id": -1, "seq_id": 0}
    if (gets or no_ops) and not (fused and kind != "F"):
        add(f"{word}-recv", rank, replica, 1, start - job.latency, start - 1e-6, **none)
    if gives or no_ops:  # fused: with what comes back, as in the steady phase of 1F1B
        name = "forward-send-backward-recv" if fused and kind == "F" else f"{word}-send"
        add(name, rank, replica, 1, end, end + job.latency * 0.9, **none)

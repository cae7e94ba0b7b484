"""Small files in the forms of other tools, written from a trace of ours."""

import gzip
import json
from collections import defaultdict
from datetime import UTC, datetime

from pipelab.action import COMPUTE, MESSAGES, SENDS, Kind
from pipelab.trace import Setting, Trace

NAMES = {
    Kind.F: "forward-compute",
    Kind.B: "backward-compute",
    Kind.SEND_F: "forward-send",
    Kind.RECV_F: "forward-recv",
    Kind.SEND_B: "backward-send",
    Kind.RECV_B: "backward-recv",
    Kind.STEP: "optimizer",
}
CALLS = {
    Kind.F: "forward_one_chunk",
    Kind.B: "backward_one_chunk",
    Kind.I: "backward_one_chunk",
    Kind.W: "backward_weight_one_chunk",
}


def computed(trace):
    """What was computed: rank, kind, stage and microbatch, and the seconds when."""
    rows = [e for e in trace.events if e.kind in COMPUTE]
    zero = min(e.start for e in rows)
    return {
        (e.rank, e.kind.value, e.stage, e.microbatch): (e.start - zero, e.end - zero) for e in rows
    }


def assert_same(found, expected, seconds=1e-8):
    """Both computed the same, at the same times."""
    found, expected = computed(found), computed(expected)
    assert found.keys() == expected.keys()
    off = max(abs(a - b) for key in found for a, b in zip(found[key], expected[key], strict=True))
    assert off <= seconds, off


def by_rank(trace):
    rows = defaultdict(list)
    for e in trace.events:
        rows[e.rank].append(e)
    return rows


def write(path, data):
    """As JSON; packed if the name ends in .gz."""
    text = json.dumps(data).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text) if path.name.endswith(".gz") else text)
    return path


def ndtimeline(traces, shifts=None, names=True, skip=lambda key, event: False):
    """Events of several steps and replicas: ``traces`` by (step, replica)."""
    rows = []
    ranks = max(t.num_ranks for t in traces.values())
    later = 0.0
    replicas = len({replica for _, replica in traces})
    for (step, replica), trace in traces.items():
        for e in trace.events:
            if e.kind not in NAMES or skip((step, replica), e):
                continue
            job_rank = e.rank * replicas + replica
            chunk = e.stage // ranks if e.kind not in MESSAGES else -1
            microbatch = e.microbatch if e.kind in COMPUTE else -1
            tid = 5 * job_rank + (0 if e.kind in COMPUTE else 1)
            ts = (e.start + later + (shifts or {}).get(e.rank, 0.0)) * 1e6
            args = {"step": step, "mb_id": microbatch, "model_chunk": chunk, "seq_id": 0}
            name = NAMES[e.kind]
            rows.append({"name": name, "cat": name, "ph": "X", "pid": replica, "tid": tid,
                         "ts": ts, "dur": (e.end - e.start) * 1e6, "args": args})  # fmt: skip
            if names:
                label = f"PP rank {e.rank}, TP rank 0, compute"
                rows.append({"name": "thread_name", "ph": "M", "pid": replica, "tid": tid,
                             "args": {"name": label}})  # fmt: skip
        later += 10.0
    return rows


def _range(name, start, end, category="user_annotation", **args):
    return {"ph": "X", "cat": category, "name": name, "pid": 1, "tid": 1,
            "ts": start * 1e6, "dur": (end - start) * 1e6, "args": args}  # fmt: skip


def runtime_events(row):
    """A rank's ranges as torch's runtime has them: the wait is within F or B."""
    found, waited = [], {}
    for e in row:
        if e.kind is Kind.WAIT:
            waited[e.stage, e.microbatch] = e
            found.append(_range("gloo:recv", e.start, e.end))
        elif e.kind in COMPUTE or e.kind in MESSAGES:
            wait = waited.pop((e.stage, e.microbatch), None) if e.kind in COMPUTE else None
            start = wait.start if wait else e.start
            found.append(_range(f"PP:{e.stage}{e.kind}{e.microbatch}", start, e.end))
    return found


def gpipe_events(row):
    """As ScheduleGPipe has them: wait and sends are within, and no stage is named."""
    found, start = [], None
    for i, e in enumerate(row):
        if e.kind is Kind.WAIT:
            start = e.start
            found.append(_range("gloo:recv", e.start, e.end))
        elif e.kind in SENDS:
            found.append(_range("c10d::send", e.start, e.end, "cpu_op"))
        elif e.kind in COMPUTE:
            after = row[i + 1] if i + 1 < len(row) else None
            end = after.end if after and after.kind in SENDS else e.end
            word = "Forward" if e.kind is Kind.F else "Backward"
            found.append(_range(f"{word} {e.microbatch}", e.start if start is None else start, end))
            start = None
    return found


def stack_events(row):
    """As Schedule1F1B has them with stacks: calls alone."""
    found = []
    for e in row:
        if e.kind is Kind.WAIT:
            found.append(_range("gloo:recv", e.start, e.end))
        elif e.kind in SENDS:
            found.append(_range("c10d::send", e.start, e.end, "cpu_op"))
        elif e.kind in COMPUTE:
            name = f"torch/distributed/pipelining/stage.py(857): {CALLS[e.kind]}"
            found.append(_range(name, e.start, e.end, "python_function"))
    return found


def device_events(row):
    """On a GPU: the host only launches, a hundredth of the time later all is in its queue."""
    found = []
    number = 100
    for i, e in enumerate(e for e in row if e.kind in COMPUTE or e.kind in MESSAGES):
        start = i * 1e-6
        found.append(_range(f"PP:{e.stage}{e.kind}{e.microbatch}", start, start + 9e-7))
        name = "ncclDevKernel_SendRecv" if e.kind in MESSAGES else "gemm"
        halves = [(e.start, (e.start + e.end) / 2), ((e.start + e.end) / 2, e.end)]
        for half, (begin, end) in enumerate(halves):
            if not half or i % 3:  # else both are kernels of one launch, as those of a graph are
                number += 1
                launch = _range("cudaLaunchKernel", start + 1e-7, start + 2e-7, "cuda_runtime",
                                correlation=number)  # fmt: skip
                launch["tid"] = 2  # autograd's thread
                found.append(launch)
            found.append(_range(name, begin, end, "kernel", correlation=number))
    return found


def kineto(folder, steps, events_of=runtime_events, hosts=None, shifts=None, ending=".json",
           windows=True, names=True):  # fmt: skip
    """One file a rank, of several steps one after the other; returns their paths."""
    paths = []
    for rank in range(steps[0].num_ranks):
        events, later = [], 0.0
        for number, trace in enumerate(steps):
            row = [
                e._replace(start=e.start + later, end=e.end + later) for e in by_rank(trace)[rank]
            ]
            events += events_of(row)
            first, last = min(e.start for e in row), max(e.end for e in row)
            if windows:
                events.append(_range(f"ProfilerStep#{number + 3}", first - 1e-6, last + 1e-6))
            later += 2.0
        data = {
            "schemaVersion": 1,
            "distributedInfo": {"backend": "gloo", "rank": rank, "world_size": steps[0].num_ranks},
            "traceEvents": events,
            "baseTimeNanoseconds": 1_790_000_000_000_000_000
            + round((shifts or {}).get(rank, 0.0) * 1e9),
        }
        if hosts:
            data["host_name"] = hosts[rank]
        if not names:
            del data["distributedInfo"]
        paths.append(write(folder / f"rank{rank}_trace{ending}", data))
    return paths


def otlp(traces):
    """Megatron's spans in OTLP's JSON: one resource a process."""

    def attribute(key, value):
        return {"key": key, "value": {"intValue": str(value)}}

    resources = []
    for rank in by_rank(traces[0]):
        spans = []
        for number, trace in enumerate(traces):
            for e in by_rank(trace)[rank]:
                if e.kind not in (Kind.F, Kind.B):
                    continue
                forward = e.kind is Kind.F
                about = [attribute("megatron.iteration", number)]
                about += [attribute("megatron.microbatch_id", e.microbatch)] if forward else []
                base = 10**18 + number * 10**10
                spans.append({
                    "name": f"megatron.microbatch.{'forward' if forward else 'backward'}",
                    "startTimeUnixNano": str(base + round(e.start * 1e9)),
                    "endTimeUnixNano": str(base + round(e.end * 1e9)),
                    "attributes": about,
                })  # fmt: skip
        resource = {"attributes": [attribute("megatron.pipeline_rank", rank)]}
        resources.append({"resource": resource, "scopeSpans": [{"spans": spans}]})
    return {"resourceSpans": resources}


CORE = {  # names of Megatron core 0.20, and what they were at first
    "megatron.microbatch.forward": "nv.mcore.microbatch.forward",
    "megatron.microbatch.backward": "nv.mcore.microbatch.backward",
    "megatron.train_step": "nv.dl.training.iteration",
    "megatron.iteration": "nv.dl.training.step",
    "megatron.evaluate": "nv.dl.training.evaluate",
    "megatron.grad_sync.finish": "nv.mcore.grad_sync.finish",
    "dl.rank": "nv.dl.rank",
    "dl.world_size": "nv.dl.world_size",
    "dl.pipeline_parallel.size": "nv.dl.topology.size.pp",
    "dl.tensor_parallel.size": "nv.dl.topology.size.tp",
    "dl.data_parallel.size": "nv.dl.topology.size.dp",
}


def lens(jobs, tensor=1, sizes=True, console=False, core=False, steps=True, context=1):
    """The same as NeMo Lens writes them: one text a line, steps are those of the span around them.

    ``jobs``: traces by replica. An evaluation follows. Without ``sizes``, messages name the rank.
    ``core``: with the later names, no microbatch's number. Without ``steps``, gradients that are
    reduced end one.
    """
    ranks, replicas = jobs[0][0].num_ranks, len(jobs)
    given, tensor = tensor, tensor * context
    named = CORE if core else {}
    lines = []

    def span(name, rank, start, end, **attributes):
        job = (rank[0] * replicas + rank[1]) * tensor + rank[2]
        about = {"dl.rank": job, "dl.world_size": ranks * replicas * tensor, "host.name": "node1"}
        if sizes:
            about |= {"dl.pipeline_parallel.size": ranks, "dl.tensor_parallel.size": given,
                      "dl.data_parallel.size": replicas}  # fmt: skip
        attributes = {key.replace("__", "."): value for key, value in attributes.items()}
        if core:
            attributes.pop("megatron.microbatch_id", None)
        name = named.get(name, name)
        about, attributes = ({named.get(k, k): v for k, v in values.items()}
                             for values in (about, attributes))  # fmt: skip
        times = [10**18 + round(time * 1e9) for time in (start, end)]
        if console:
            texts = [datetime.fromtimestamp(t / 1e9, UTC).isoformat() for t in times]
            row = {"name": name, "start_time": texts[0], "end_time": texts[1],
                   "attributes": attributes, "resource": {"attributes": about}}  # fmt: skip
        else:

            def pairs(values):
                return [{"key": k, "value": {"intValue" if type(v) is int else "stringValue":
                                             str(v)}} for k, v in values.items()]  # fmt: skip

            row = {"name": name, "attributes": pairs(attributes)}
            row |= {"startTimeUnixNano": str(times[0]), "endTimeUnixNano": str(times[1])}
            resource = {"resource": {"attributes": pairs(about)}, "scopeSpans": [{"spans": [row]}]}
            row = {"resourceSpans": [resource]}
        lines.append(json.dumps(row))

    for replica, traces in enumerate(jobs):
        for place in ((r, replica, t) for r in range(ranks) for t in range(tensor)):
            for number, trace in enumerate(traces):
                later = 10.0 * number
                for e in by_rank(trace)[place[0]]:
                    if e.kind not in (Kind.F, Kind.B):
                        continue
                    word = "forward" if e.kind is Kind.F else "backward"
                    own = {"megatron__microbatch_id": e.microbatch} if e.kind is Kind.F else {}
                    start, end = e.start + later, e.end + later
                    span(f"megatron.microbatch.{word}", place, start, end, **own)
                    if place[0] and e.kind is Kind.F and not core:
                        own = {"dl__pipeline_parallel__rank": place[0]}
                        span("megatron.pp.recv_forward.linked", place, start, start, **own)
                if steps:
                    span("megatron.train_step", place, later - 1, later + 5,
                         megatron__iteration=number + 100)  # fmt: skip
                span("megatron.grad_sync.finish", place, later + 3, later + 4)
            span("megatron.microbatch.forward", place, 90, 91, megatron__microbatch_id=0)
            span("megatron.evaluate", place, 89, 92)
    return "\n".join(lines) + "\n"


def without_messages(trace):
    """Computations alone."""
    events = tuple(e for e in trace.events if e.kind in COMPUTE)
    return Trace(events, "recorded", Setting(ranks=trace.num_ranks))


def shifted(trace, seconds):
    """Later by so much."""
    events = tuple(e._replace(start=e.start + seconds, end=e.end + seconds) for e in trace.events)
    return Trace(events, trace.source, trace.setting)

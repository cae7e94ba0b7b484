"""What other tools wrote, read back: the same actions at the same times, and what is missing."""

import errno
import gzip
import json
import random
import re
from pathlib import Path

import pytest

from pipelab.action import COMPUTE, Kind
from pipelab.errors import TraceError
from pipelab.schedules import gpipe, interleaved, one_f_one_b, zero_bubble_h1, zero_bubble_v
from pipelab.trace import Trace, critical_path, explain_idle
from tests.trace.foreign import (
    assert_same,
    computed,
    device_events,
    gpipe_events,
    kineto,
    lens,
    ndtimeline,
    otlp,
    runtime_events,
    stack_events,
    without_messages,
    write,
)
from tests.traces import recorded_like

FEW = [one_f_one_b(4, 6), gpipe(3, 4), interleaved(2, 4, 2), one_f_one_b(1, 3)]
ids = [f"{s.name}-{s.num_ranks}" for s in FEW]


def notes(traces):
    return "\n".join(traces[0].setting.notes)


@pytest.mark.parametrize("schedule", FEW, ids=ids)
@pytest.mark.parametrize("ending", [".json", ".json.gz"])
def test_ndtimeline_gives_every_step_and_replica(schedule, ending, tmp_path):
    made = {(step, replica): recorded_like(schedule, seed=10 * step + replica)
            for step in (7, 9) for replica in (0, 1)}  # fmt: skip
    path = write(tmp_path / f"timeline{ending}", ndtimeline(made))
    traces = Trace.read(path)
    assert [(t.setting.step, t.setting.replica) for t in traces] == sorted(made)
    for trace in traces:
        own = made[trace.setting.step, trace.setting.replica]
        assert_same(trace, own)
        assert trace.num_ranks == schedule.num_ranks
        assert trace.setting.microbatches == schedule.num_microbatches
        kinds = {Kind.SEND_F, Kind.SEND_B}
        sent = {(e.rank, e.kind, e.stage, e.microbatch, e.peer) for e in own.events}  # fmt: skip
        assert {(e.rank, e.kind, e.stage, e.microbatch, e.peer)
                for e in trace.events if e.kind in kinds} <= sent  # fmt: skip
        assert "ndtimeline, device time" in trace.source_line
        assert f"step {trace.setting.step} · replica" in trace.source_line
        assert trace.bubble_fraction == pytest.approx(own.bubble_fraction, abs=1e-6)


def test_ndtimeline_finds_a_placement_in_a_v(tmp_path):
    schedule = zero_bubble_v(3, 6)
    own = recorded_like(schedule)
    rows = ndtimeline({(0, 0): own})
    names = {Kind.I: "backward-input-compute", Kind.W: "backward-weight-compute"}
    rows = [row for row in rows if row["name"] != "forward-send"]
    for e in own.events:
        if e.kind in names or e.kind is Kind.F:
            name = names.get(e.kind, "forward-compute")
            rows.append({"name": name, "cat": name, "ph": "X", "pid": 0, "tid": 5 * e.rank,
                         "ts": e.start * 1e6, "dur": (e.end - e.start) * 1e6,
                         "args": {"step": 0, "mb_id": e.microbatch,
                                  "model_chunk": int(e.stage >= 3)}})  # fmt: skip
    rows = [r for r in rows if "compute" not in r["name"] or r["args"]["model_chunk"] >= 0]
    traces = Trace.read(write(tmp_path / "v.json", rows))
    found = {(rank, stage) for rank, _, stage, _ in computed(traces[0])}
    assert found == {(rank, s) for rank in range(3) for s in (rank, 5 - rank)}


@pytest.mark.parametrize("windows", [True, False])
@pytest.mark.parametrize("ending", [".json", ".json.gz"])
@pytest.mark.parametrize(
    "schedule", [*FEW, zero_bubble_v(3, 6), zero_bubble_h1(4, 5)], ids=lambda s: s.name
)
def test_the_runtimes_ranges_give_computation_without_the_waits_in_them(
    schedule, ending, windows, tmp_path
):
    steps = [recorded_like(schedule, seed=seed) for seed in (1, 2)]
    kineto(tmp_path, steps, ending=ending, windows=windows)
    traces = Trace.read(tmp_path)
    assert [t.setting.step for t in traces] == ([3, 4] if windows else [0, 1])
    assert "not recorded" not in notes(traces)
    for trace, own in zip(traces, steps, strict=True):
        assert_same(trace, own)
        waits = {(e.rank, e.stage, e.microbatch, e.peer) for e in own.events if e.kind is Kind.WAIT}
        assert {(e.rank, e.stage, e.microbatch, e.peer)
                for e in trace.events if e.kind is Kind.WAIT} == waits  # fmt: skip
        assert "torch.profiler, host time" in trace.source_line


@pytest.mark.parametrize(
    ("schedule", "events_of"),
    [(gpipe(4, 5), gpipe_events), (one_f_one_b(4, 6), stack_events), (gpipe(1, 3), gpipe_events)],
)
@pytest.mark.parametrize("windows", [True, False])
def test_ranges_and_calls_without_stages_take_the_rank_for_one(
    schedule, events_of, windows, tmp_path
):
    steps = [recorded_like(schedule, seed=seed) for seed in (1, 2, 3)]
    kineto(tmp_path, steps, events_of, windows=windows)
    traces = Trace.read(tmp_path)
    assert len(traces) == 3
    for trace, own in zip(traces, steps, strict=True):
        assert_same(trace, own)
        kinds = (Kind.SEND_F, Kind.SEND_B)
        sent = {
            (e.rank, e.kind, e.stage, e.microbatch, e.peer) for e in own.events if e.kind in kinds
        }
        assert {(e.rank, e.kind, e.stage, e.microbatch, e.peer)
                for e in trace.events if e.kind in kinds} == sent  # fmt: skip


def test_on_a_gpu_the_kernels_count_and_not_the_launches(tmp_path):
    own = recorded_like(interleaved(2, 4, 2))
    kineto(tmp_path, [own], device_events, windows=False)
    (trace,) = Trace.read(tmp_path)
    assert_same(trace, own)
    assert "device time" in trace.source_line
    sends = [e for e in trace.events if e.kind is Kind.SEND_F]
    assert sends and all(e.end > e.start and e.peer is not None for e in sends)


def test_an_overlapped_pair_is_apart_where_its_calls_are_there(tmp_path):
    def events(calls):
        found = [
            {"ph": "X", "cat": "user_annotation", "name": name, "ts": ts, "dur": dur}
            for name, ts, dur in [("PP:0F1", 0, 10), ("PP:0F0", 10, 10), ("PP:0B1", 40, 10),
                                  ("PP:(0F2;0B0)OVERLAP_F_B", 20, 20), ("PP:0B2", 50, 10)]
        ]  # fmt: skip
        place = "torch/distributed/pipelining/stage.py(9): "
        for name, ts in (("forward_one_chunk", 20), ("backward_one_chunk", 31)) if calls else ():
            found.append({"ph": "X", "cat": "python_function", "name": place + name, "ts": ts,
                          "dur": 9})  # fmt: skip
        return {"traceEvents": found, "distributedInfo": {"rank": 0}}

    (apart,) = Trace.read(write(tmp_path / "a.json", events(True)))
    (together,) = Trace.read(write(tmp_path / "b.json", events(False)))
    times = {kind: [(e.start, e.end) for e in t.events if (e.kind, e.microbatch) == kind]
             for t in (apart,) for kind in ((Kind.F, 2), (Kind.B, 0))}  # fmt: skip
    assert times[Kind.F, 2][0][1] <= times[Kind.B, 0][0][0]
    assert "share one range" in notes([together])
    assert len([e for e in together.events if e.kind in COMPUTE]) == 6


def test_spans_of_megatron(tmp_path):
    steps = [recorded_like(one_f_one_b(3, 4), seed=seed) for seed in (1, 2)]
    traces = Trace.read(write(tmp_path / "spans.json", otlp(steps)))
    for trace, own in zip(traces, steps, strict=True):
        assert_same(trace, own)
    assert "no memory and no waits" in notes(traces)


@pytest.mark.parametrize("form", [{}, {"core": True}, {"core": True, "steps": False}])
@pytest.mark.parametrize("console", [False, True])
@pytest.mark.parametrize(
    ("tensor", "sizes", "context"), [(1, True, 1), (2, True, 1), (1, True, 2), (1, False, 1)]
)
def test_spans_of_megatron_as_its_exporters_write_them(
    tensor, sizes, context, console, form, tmp_path
):
    if form and not sizes:
        pytest.skip("the later form names no rank in its messages")
    jobs = [[recorded_like(one_f_one_b(3, 4), seed=10 * replica + n) for n in range(2)]
            for replica in range(2)]  # fmt: skip
    path = tmp_path / "traces.jsonl"
    path.write_text(lens(jobs, tensor, sizes, console, context=context, **form))
    traces = Trace.read(path)
    at = [(t.setting.step, t.setting.replica) for t in traces]
    first = 100 if form.get("steps", True) else 0
    assert at == [(first, 0), (first, 1), (first + 1, 0), (first + 1, 1)]
    for trace in traces:
        own = jobs[trace.setting.replica][trace.setting.step - first]
        assert_same(trace, own, 1e-6 if console else 1e-8)
    assert "all ranks ran on node1" in notes(traces)
    further = "6 further tensor- or context-parallel ranks"
    assert (further in notes(traces)) == (tensor * context == 2)


def test_spans_of_megatrons_interleaved_schedule(tmp_path):
    """A forward's number comes again with the next chunk; backwards have none."""
    jobs = [[recorded_like(interleaved(4, 8, 2), seed=n) for n in range(2)]]
    for form in ({}, {"steps": False}):
        path = tmp_path / "traces.jsonl"
        path.write_text(lens(jobs, **form))
        traces = Trace.read(path)
        assert len(traces) == 2
        for trace, own in zip(traces, jobs[0], strict=True):
            assert_same(trace, own)


def test_our_own_files_come_back(tmp_path):
    own = recorded_like(one_f_one_b(3, 4))
    (loaded,) = Trace.read(own.save(tmp_path / "trace.json"))
    assert loaded == own
    (seen,) = Trace.read(own.to_chrome(tmp_path / "trace.perfetto.json"))
    assert_same(seen, own)
    assert {e.kind for e in seen.events} == {e.kind for e in own.events}
    assert seen.peak_activation_bytes == own.peak_activation_bytes
    (again,) = Trace.read(seen.save(tmp_path / "again.json"))
    assert again == seen


# ------------------------------------------------------------------------ several pipelines


def test_files_with_the_same_stages_are_replicas(tmp_path):
    made = [recorded_like(one_f_one_b(2, 3), seed=seed) for seed in (1, 2)]
    files = [kineto(tmp_path / str(i), [trace]) for i, trace in enumerate(made)]
    for replica, paths in enumerate(files):
        for rank, path in enumerate(paths):
            data = json.loads(path.read_text())
            data["distributedInfo"]["rank"] = 2 * replica + rank
            write(tmp_path / "all" / f"rank{2 * replica + rank}.json", data)
    traces = Trace.read(tmp_path / "all")
    assert [t.setting.replica for t in traces] == [0, 1]
    for trace, own in zip(traces, made, strict=True):
        assert_same(trace, own)


@pytest.mark.parametrize("inner", [True, False])
def test_the_jobs_own_process_group_says_who_is_a_pipeline(inner, tmp_path):
    """1F1B names no stages: ranks 0, 2 and 1, 3 are pipelines, or 0, 1 and 2, 3."""
    made = [recorded_like(one_f_one_b(2, 3), seed=seed) for seed in (1, 2)]
    groups = [[0, 1], [2, 3]] if inner else [[0, 2], [1, 3]]
    for replica, trace in enumerate(made):
        for rank, path in enumerate(kineto(tmp_path / str(replica), [trace], stack_events)):
            data = json.loads(path.read_text())
            number = groups[replica][rank]
            group = {"pg_desc": "mesh_pp", "ranks": groups[replica]}
            data["distributedInfo"] = {"pg_config": [group], "rank": number}
            write(tmp_path / "all" / f"{number}.json", data)
    traces = Trace.read(tmp_path / "all")
    for trace, own in zip(traces, made, strict=True):
        assert_same(trace, own)


def test_torchtitans_folders_are_captures_one_after_the_other(tmp_path):
    steps = [recorded_like(one_f_one_b(2, 3), seed=seed) for seed in (1, 2)]
    for number, trace in zip((10, 20), steps, strict=True):
        kineto(tmp_path / f"iteration_{number}", [trace], windows=False)
    traces = Trace.read(tmp_path)
    for trace, own in zip(traces, steps, strict=True):
        assert_same(trace, own)


# ----------------------------------------------------------------------------------- clocks


@pytest.mark.parametrize("seed", range(4))
def test_clocks_of_several_hosts_are_aligned_by_the_messages(seed, tmp_path):
    chance = random.Random(seed)
    own = recorded_like(one_f_one_b(4, 8), seed=seed)
    shifts = {rank: chance.uniform(-0.5, 0.5) for rank in range(1, 4)}
    kineto(tmp_path, [own], hosts=["a", "b", "c", "d"], shifts=shifts)
    (trace,) = Trace.read(tmp_path)
    error = trace.setting.clock_error
    assert 0 < error < 0.02
    assert f"± {1e3 * error:.2g} ms" in trace.source_line
    assert "clocks aligned by the messages" in notes([trace])
    assert_same(trace, own, error + 1e-6)
    sends = {(e.stage, e.microbatch): e for e in trace.events if e.kind is Kind.SEND_F}
    for e in (e for e in trace.events if e.kind is Kind.F and e.rank):
        sent = sends[e.stage - 1, e.microbatch]
        assert sent.start <= e.start + 1e-6, "a receive cannot end before its send began"


def test_ranks_of_one_host_share_its_clock(tmp_path):
    own = recorded_like(one_f_one_b(4, 4))
    shifts = {2: 0.3, 3: 0.3}
    kineto(tmp_path, [own], hosts=["a", "a", "b", "b"], shifts=shifts)
    (trace,) = Trace.read(tmp_path)
    ours, off = computed(own), {}
    for key, (start, _) in computed(trace).items():
        off.setdefault(key[0], []).append(start - ours[key][0])
    assert all(max(values) - min(values) < 1e-6 for values in off.values())
    assert off[2][0] == pytest.approx(off[3][0], abs=1e-6)
    assert abs(off[2][0]) <= trace.setting.clock_error + 1e-6
    kineto(tmp_path, [own], hosts=["a"] * 4)
    (trace,) = Trace.read(tmp_path)
    assert trace.setting.clock_error == 0.0 and "share its clock" in notes([trace])


def test_files_of_several_runs_on_one_host_are_refused(tmp_path):
    own = recorded_like(one_f_one_b(2, 4))
    paths = kineto(tmp_path, [own], hosts=["a", "a"], shifts={1: -10.0})
    with pytest.raises(TraceError, match=r"rank 1 used a result of rank 0 .* several runs"):
        Trace.read(paths)
    own = recorded_like(one_f_one_b(3, 4))
    paths = kineto(tmp_path, [own], hosts=["a", "a", "a"])
    (trace,) = Trace.read([paths[0], paths[2]])
    assert "all ranks ran on a: they share its clock" in notes([trace])


def test_a_file_whose_clocks_contradict_its_messages_is_aligned_too(tmp_path):
    own = recorded_like(one_f_one_b(3, 6))
    rows = ndtimeline({(0, 0): own}, shifts={2: -0.2})
    (trace,) = Trace.read(write(tmp_path / "t.json", rows))
    assert trace.setting.clock_error > 0
    assert abs(trace.duration - own.duration) < 0.01
    (trace,) = Trace.read(write(tmp_path / "t.json", ndtimeline({(0, 0): own})))
    assert trace.setting.clock_error == 0 and "clocks are as they were" in notes([trace])


def test_without_messages_clocks_cannot_be_aligned_and_that_is_said(tmp_path):
    lonely = without_messages(recorded_like(gpipe(1, 4)))
    kineto(tmp_path, [lonely], hosts=["a"])
    (trace,) = Trace.read(tmp_path)
    assert trace.setting.clock_error == 0.0
    several = without_messages(recorded_like(one_f_one_b(2, 4)))
    kineto(tmp_path, [several], hosts=["a", "b"])
    (trace,) = Trace.read(tmp_path)
    assert "no messages in the files" in notes([trace])


# ------------------------------------------------------------- idle time, where nobody waited


def test_idle_time_has_its_reasons_although_no_wait_was_recorded(tmp_path):
    own = recorded_like(one_f_one_b(4, 6))
    (trace,) = Trace.read(write(tmp_path / "t.json", ndtimeline({(0, 0): own})))
    assert not any(e.kind is Kind.WAIT for e in trace.events)
    seconds = {"waiting": 0.0, "overhead": 0.0, "imbalance": 0.0}
    for idle in explain_idle(trace):
        seconds[idle.reason] = seconds.get(idle.reason, 0.0) + idle.seconds
    whole = sum(seconds.values())
    assert whole == pytest.approx(trace.bubble_fraction * 4 * trace.duration)
    assert seconds["waiting"] + seconds["imbalance"] > 0.5 * whole
    assert seconds["overhead"] < 0.1 * whole
    path = [link.event for link in critical_path(trace) if link.event.kind in COMPUTE]
    assert sum(e.end - e.start for e in path) > 0.85 * trace.duration


# ------------------------------------------------------------------ missing, doubled, damaged


def test_what_is_missing_is_said_with_counts(tmp_path):
    own = recorded_like(one_f_one_b(4, 6))
    lost = ndtimeline({(0, 0): own}, skip=lambda key, e: e.rank == 2)
    traces = Trace.read(write(tmp_path / "t.json", lost))
    assert "replica 0 has 3 of 4 ranks: rank 2 not recorded" in notes(traces)
    lost = ndtimeline({(0, 0): own}, skip=lambda k, e: e.stage == 1 and e.microbatch in (2, 3))
    traces = Trace.read(write(tmp_path / "t.json", lost))
    assert "stage 1 has F of 4 of 6 microbatches: microbatches 2, 3 not recorded" in notes(traces)
    lost = ndtimeline({(s, 0): own for s in range(3)}, skip=lambda k, e: k[0] == 1 and e.rank == 3)
    traces = Trace.read(write(tmp_path / "t.json", lost))
    assert [t.setting.step for t in traces] == [0, 2]
    assert "only a part was recorded: step 1 of replica 0 has 36 of 48" in notes(traces)


def test_a_rank_without_a_file_is_counted_and_leaves_a_gap(tmp_path):
    for schedule in (one_f_one_b(4, 6), zero_bubble_v(4, 8)):
        own = recorded_like(schedule)
        paths = kineto(tmp_path, [own])
        for lost in (1, 3):
            (trace,) = Trace.read([path for rank, path in enumerate(paths) if rank != lost])
            assert "files of 3 of the job's 4 ranks" in notes([trace])
            assert {e.rank for e in trace.events} == set(range(4)) - {lost}
            if lost == 1:
                assert "replica 0 has 3 of 4 ranks: rank 1 not recorded" in notes([trace])


def test_idle_time_beside_a_missing_rank_is_still_waiting(tmp_path):
    own = recorded_like(one_f_one_b(4, 6))
    rows = ndtimeline({(0, 0): own}, skip=lambda key, e: e.rank == 1)
    (trace,) = Trace.read(write(tmp_path / "t.json", rows))
    idle = [piece for piece in explain_idle(trace) if piece.rank == 2 and piece.phase == "steady"]
    waits = [piece for piece in idle if piece.reason in ("waiting", "imbalance")]
    assert 1 in {piece.peer for piece in waits}
    assert sum(piece.seconds for piece in waits) > 0.7 * sum(piece.seconds for piece in idle)


def test_other_names_of_step_and_microbatch_are_understood(tmp_path):
    made = {(step, replica): recorded_like(one_f_one_b(2, 3), seed=step + replica)
            for step in (3, 4) for replica in (0, 1)}  # fmt: skip
    rows = ndtimeline(made)
    for row in rows:
        row["pid"] = f"DP rank [{row['pid']}]"
        args = row["args"]
        if "step" in args:
            args["iteration"], args["microbatch"] = str(args.pop("step")), args.pop("mb_id")
    traces = Trace.read(write(tmp_path / "t.json", rows))
    for trace in traces:
        assert_same(trace, made[trace.setting.step, trace.setting.replica])


def test_a_smaller_batch_is_no_part_of_a_step(tmp_path):
    made = {(step, 0): recorded_like(one_f_one_b(2, 4 - step)) for step in range(3)}
    traces = Trace.read(write(tmp_path / "t.json", ndtimeline(made)))
    assert [t.setting.microbatches for t in traces] == [4, 3, 2]


def test_numbers_that_count_through_all_chunks_are_counted_anew(tmp_path):
    own = recorded_like(interleaved(2, 4, 2))
    rows = ndtimeline({(0, 0): own})
    for row in rows:
        if row["ph"] == "X" and row["args"]["model_chunk"] == 1:
            row["args"]["mb_id"] += 4
    (trace,) = Trace.read(write(tmp_path / "t.json", rows))
    assert_same(trace, own)


def test_doubles_are_counted_and_read_once(tmp_path):
    own = recorded_like(one_f_one_b(2, 3))
    rows = ndtimeline({(0, 0): own})
    traces = Trace.read(write(tmp_path / "t.json", rows + rows))
    assert_same(traces[0], own)
    assert "events there twice" in notes(traces)
    paths = kineto(tmp_path / "k", [own])
    paths.append(write(tmp_path / "k" / "copy.json", json.loads(paths[1].read_text())))
    traces = Trace.read(paths)
    assert_same(traces[0], own)
    assert "rank 1 is there twice: copy.json is not read" in notes(traces)


def test_one_event_a_line_and_pythons_nan(tmp_path):
    own = recorded_like(one_f_one_b(2, 3))
    rows = ndtimeline({(0, 0): own})
    for row in rows:
        if row["ph"] == "X":
            row["args"]["seq_id"] = float("nan")
            row["note"] = "x" * 997 + " NaN, Infinity"  # words of a text stay
    for number, text in enumerate(
        [json.dumps(rows), "\n".join(json.dumps({"ph": row["ph"], **row}) for row in rows)]
    ):
        path = tmp_path / f"{number}.json"
        path.write_text(text)
        (trace,) = Trace.read(path)
        assert_same(trace, own)


def test_a_file_without_permission(tmp_path, monkeypatch):
    """As another user's, or in another user's folder; root may read all, so it is only said."""
    path = write(tmp_path / "t.json", [])

    def closed(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(TraceError, match=r"t.json: cannot be read as JSON \(Permission denied\)"):
        Trace.read(path)
    monkeypatch.setattr(Path, "stat", closed)
    monkeypatch.setattr(Path, "is_file", closed)
    with pytest.raises(TraceError, match=r"t.json: cannot be read as JSON \(Permission denied\)"):
        Trace.read(path)


def test_a_file_that_grows_while_it_is_read(tmp_path):
    """The bytes that come later belong to no step; how far it is read is never above all."""
    path = write(tmp_path / "t.json", ndtimeline({(0, 0): recorded_like(one_f_one_b(2, 3))}))
    size, places = path.stat().st_size, []

    def grow(place):
        places.append(place)
        if len(places) < 3:
            with path.open("a") as file:
                file.write(" " * (1 << 20))

    (trace,) = Trace.read(path)
    with path.open("a") as file:
        file.write(" " * (1 << 20))
    (again,) = Trace.read(path, grow)
    assert_same(again, trace)
    assert path.stat().st_size > size + (2 << 20)
    assert all(place.done <= place.total for place in places)


def test_names_of_files_mean_nothing(tmp_path):
    own = recorded_like(one_f_one_b(2, 3))
    packed = tmp_path / "timeline.json"
    packed.write_bytes(gzip.compress(json.dumps(ndtimeline({(0, 0): own})).encode()))
    plain = tmp_path / "timeline.json.gz"
    plain.write_text("\ufeff" + json.dumps(ndtimeline({(0, 0): own})))
    for path in (packed, plain):
        (trace,) = Trace.read(path)
        assert_same(trace, own)


def ndtimeline_text():
    return json.dumps(ndtimeline({(0, 0): recorded_like(one_f_one_b(2, 3))}))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (gzip.compress(b""), "it is empty"),
        (b"PK\x03\x04xxxx", "zip archive: unpack it"),
        (b"\x28\xb5\x2f\xfdxxxx", "zstd: unpack it, or pack it by gzip"),
        ("[]".encode("utf-16"), "UTF-16: save it as UTF-8"),
        (b"PAR1xxxx", "Parquet table: StragglerAnalysis' to_timeline.py makes"),
        (b"hello", "begins with neither"),
        (b"[1, 2, 3]", "no recorded pipeline.*expected ndtimeline's.*torch.profiler's"),
        (b"{}", "no recorded pipeline.*no list of events"),
        (b'{"traceEvents": []}', "no recorded pipeline"),
        (b'{"traceEvents": 3}', "no recorded pipeline"),
        (b'[{"name": ["list"], "ph": "X"}, {"name": {"a": 1}}]', "no recorded pipeline"),
        (b'[{"name": "forward", "ph": "X", "ts": 1, "dur": 1}]', "such as forward.*expected"),
        (b'[{"name": "forward", "cat": {"a": []}, "ph": "X"}]', "such as forward.*expected"),
        (b'[{"name": "forward-compute", "ph": "X", "ts": 1, "dur": 1, "args": {"mb_id": 0, '
         b'"model_chunk": 2000000000}}]', "stage 2000000000, microbatch 0: the file is damaged"),
        (b'[{"name": "forward-compute", "ph": "X", "ts": "soon", "dur": 1}]', "ts 'soon'"),
        (b'[{"name": "forward-compute", "ph": "X", "ts": 1, "dur": -1}]', "dur -1"),
        (b'[{"name": "forward-compute", "ph": "X", "ts": 1, "dur": null}]', "dur None"),
        (b'[{"name": "optimizer", "ph": "X", "ts": 1, "dur": 1}]', "no forward or backward"),
        (ndtimeline_text()[:900].encode(), r"ends in the middle, after \d+ events"),
        (gzip.compress(ndtimeline_text().encode())[:300], "ends in the middle"),
        (b"\x1f\x8b" + b"nonsense" * 9, "cannot be read"),
        (b'[{"name": "forward-compute", \xff\xfe', "cannot be read as JSON"),
        (b'[{"name": "forward-compute", "ts": 1x}]', "cannot be read as JSON after 0 events"),
        (b'[{"name": "forward-compute", "ph": "X", "ts": NaN, "dur": 1}]', "ts None"),
        (b"[" * 100_000, "ends in the middle|cannot be read"),
        (b'{"traceEvents": [{"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#1", '
         b'"ts": 1, "dur": 2}]}', "with_stack=True"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_one_sentence(content, words, tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=f"(?s){path.name}|{words}") as error:
        Trace.read(path)
    assert re.search(words, str(error.value), re.DOTALL), str(error.value)
    assert "\n" not in str(error.value)


def test_files_of_several_runs_are_not_mixed(tmp_path):
    own = recorded_like(one_f_one_b(2, 3))
    first = write(tmp_path / "a.json", ndtimeline({(0, 0): own}))
    others = kineto(tmp_path / "k", [own])
    with pytest.raises(TraceError, match=r"a.json is of ndtimeline, .*rank0_trace.json is not"):
        Trace.read([first, *others])
    later = write(tmp_path / "b.json", ndtimeline({(0, 0): recorded_like(one_f_one_b(2, 4))}))
    with pytest.raises(TraceError, match=r"a.json .* step 0 of replica 0 twice, .* several runs"):
        Trace.read([first, later])
    assert len(Trace.read([first, write(tmp_path / "copy.json", ndtimeline({(0, 0): own}))])) == 1
    saved = own.save(tmp_path / "own.json")
    with pytest.raises(TraceError, match="open them one by one"):
        Trace.read([saved, first])
    with pytest.raises(TraceError, match="there is no such file"):
        Trace.read(tmp_path / "nothing.json")
    (tmp_path / "round.json").symlink_to(tmp_path / "round.json")
    with pytest.raises(TraceError, match=r"round.json: it is a link that leads nowhere"):
        Trace.read(tmp_path / "round.json")
    with pytest.raises(TraceError, match="stdin is not read, write it into a file"):
        Trace.read("-")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TraceError, match="holds no file"):
        Trace.read(tmp_path / "empty")


def test_runtime_events_alone_need_no_rank(tmp_path):
    """Older files do not say their rank: the name of the file does, or their order."""
    own = recorded_like(one_f_one_b(3, 4))
    kineto(tmp_path, [own], runtime_events, names=False)
    (trace,) = Trace.read(tmp_path)
    assert_same(trace, own)

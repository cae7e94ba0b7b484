"""Schedules travel to torch.distributed.pipelining and back as its compute-only CSV."""

import importlib
import re

import pytest

from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule, dual_pipe_v, gpipe, one_f_one_b, validate
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.schedules.communication import lower
from pipelab.simulator import Cost, simulate

SIZES = [(p, m) for p in (2, 4) for m in (4, 8)]


@pytest.fixture(scope="module")
def tables():
    """The helper that speaks to torch; importing torch's pipelining takes seconds."""
    return importlib.import_module("tests.schedules.torch_tables")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "schedule.csv"


@pytest.mark.parametrize(("p", "m"), [*SIZES, (1, 3), (4, 3), (3, 7)])
@pytest.mark.parametrize("name", BUILDERS)
def test_torch_loads_lowers_and_passes_what_we_write(name, p, m, tables, path):
    schedule = build(name, p, max(m, BUILDERS[name].fewest(p)))
    runtime = tables.load(schedule, path)
    ours = schedule.tokens
    assert tables.computation(runtime.pipeline_order) == ours
    assert tables.computation(runtime.pipeline_order_with_comms) == ours
    assert runtime.stage_index_to_group_rank == schedule.rank_of_stage
    assert tables.dry_run(runtime) == [[a.token for a in row] for row in schedule.ranks]


def test_torch_would_have_noticed(tables, path):
    with pytest.raises(AssertionError, match="without first running Forward"):
        tables.load(Schedule.from_tokens([["0F0", "0B0"], ["1B0", "1F0"]]), path)
    crossed = Schedule.from_tokens([["0F0", "0B0", "0F1", "0B1"], ["1F1", "1B1", "1F0", "1B0"]])
    with pytest.raises(AssertionError, match="can't schedule sends/recvs"):
        tables.load(crossed, path)


# torch's class, stages per rank, and ours with the very same order, where there is one. torch's
# looped BFS runs its backwards from the last microbatch to the first, ours in order (so that
# gradients add up as in one process); its interleaved zero bubble has no twin for v > 1.
TORCH = [
    ("ScheduleGPipe", 1, "gpipe"),
    ("ScheduleInterleaved1F1B", 1, "interleaved"),
    ("ScheduleInterleaved1F1B", 2, "interleaved"),
    ("ScheduleInterleaved1F1B", 3, "interleaved"),
    ("ScheduleLoopedBFS", 1, None),
    ("ScheduleLoopedBFS", 2, None),
    ("ScheduleInterleavedZeroBubble", 1, "zero_bubble_h1"),
    ("ScheduleInterleavedZeroBubble", 2, None),
    ("ScheduleZBVZeroBubble", 2, "zero_bubble_v"),
]


@pytest.mark.parametrize(("p", "m"), SIZES)
@pytest.mark.parametrize(("name", "v", "twin"), TORCH)
def test_we_load_what_torch_orders(name, v, twin, p, m, tables, path):
    schedule = Schedule.from_csv(tables.dumped(name, p, m, v, path))
    validate(schedule)
    assert (schedule.num_ranks, schedule.num_stages, schedule.num_microbatches) == (p, p * v, m)
    assert twin is None or schedule.ranks == build(twin, p, m, v).ranks


def test_the_catalogue_names_all_classes_of_torch_that_run_the_same_order():
    same = {ours: name for name, _, ours in TORCH if ours}
    same |= {"1f1b": "Schedule1F1B", "dual_pipe_v": "ScheduleDualPipeV"}  # see below
    assert {name: entry.torch for name, entry in BUILDERS.items() if entry.torch} == same


@pytest.mark.parametrize(("p", "m"), SIZES)
def test_torchs_1f1b_runs_ours_but_its_table_is_wrong_on_the_last_rank(p, m, tables, path):
    """torch writes 1F1B twice, and the copies drifted.

    ``Schedule1F1B.step`` runs the textbook's order, which is ours. Its table, ``pipeline_order``,
    counts the forwards of the steady state from "the last one of the warmup, plus 1". The last
    rank has no warmup, so the count starts from its initial 0, plus 1: it skips microbatch 0 and
    ends with microbatch m, which does not exist, and runs the first backward before its forward.
    If this test fails, torch has repaired it: move Schedule1F1B up to ``TORCH``.
    """
    ours = one_f_one_b(p, m)
    assert tables.what_1f1b_runs(p, m).ranks == ours.ranks
    table = Schedule.from_csv(tables.dumped("Schedule1F1B", p, m, 1, path))
    assert table.ranks[:-1] == ours.ranks[:-1]
    shifted = [a._replace(microbatch=a.microbatch + (a.kind == "F")) for a in ours.ranks[-1]]
    assert table.ranks[-1] == tuple(shifted)
    with pytest.raises(ScheduleError, match=rf"microbatch {m}: found 0 F, 0 B"):
        validate(table)


@pytest.mark.parametrize(("p", "m"), [(1, 2), (2, 4), (2, 8), (3, 7), (4, 8), (5, 13)])
def test_dual_pipe_v_is_torchs_with_all_that_overlaps(p, m, tables, path):  # it wants m >= 2p
    text = tables.dumped("ScheduleDualPipeV", p, m, 2, path)
    schedule, ours = Schedule.from_csv(text), dual_pipe_v(p, m)
    assert (schedule.ranks, schedule.overlaps) == (ours.ranks, ours.overlaps)
    assert [line.split(",") for line in text.splitlines()] == ours.tokens
    assert Schedule.from_csv(ours.to_csv()).tokens == ours.tokens
    assert Schedule.from_tokens(ours.tokens).overlaps == ours.overlaps


@pytest.mark.parametrize(
    "token", ["(0F3;7W1)OVERLAP_F_B", "(7B1;0F3)OVERLAP_F_B", "(0F3)OVERLAP_F_B", "0OVERLAP_F_B1"]
)
def test_what_overlaps_is_an_f_and_a_b(token):
    with pytest.raises(ScheduleError, match="what overlaps is one F and one B"):
        Schedule.from_csv(token)


def test_reductions_without_messages_are_left_to_the_lowering():
    # torch's single-stage classes order REDUCE_GRAD too, but no messages: these we add ourselves
    text = (
        gpipe(2, 2).to_csv().replace("0B1", "0B1,0REDUCE_GRAD").replace("1B1", "1B1,1REDUCE_GRAD")
    )
    schedule = Schedule.from_csv(text)
    validate(schedule)
    assert "0SEND_F0" in lower(schedule).to_csv()
    assert simulate(schedule, Cost()).duration == simulate(gpipe(2, 2), Cost()).duration


def test_a_bad_token_is_named_with_its_line():
    with pytest.raises(ScheduleError, match=r"line 2 \(rank 1\): '0X0' is no token"):
        Schedule.from_csv("0F0,0B0\n0X0,1B0\n")


@pytest.mark.parametrize("token", ["0UNSHARD", "3RESHARD"])
def test_what_fsdp_orders_is_to_be_left_out(token):
    with pytest.raises(ScheduleError, match=rf"line 2 .*'{token}': .* FSDP's: leave them out"):
        Schedule.from_csv(f"0F0,0B0\n{token},1F0,1B0\n")


@pytest.mark.parametrize(
    ("name", "v"), [("ScheduleInterleaved1F1B", 2), ("ScheduleZBVZeroBubble", 2)]
)
def test_without_it_the_messages_that_torch_ordered_run(name, v, tables, path):
    text = tables.dumped(name, 2, 4, v, path, "compute_comms")
    assert "0UNSHARD" in text and "RESHARD" in text
    kept = re.sub(r"\d+(UNSHARD|RESHARD),?", "", text)
    schedule = Schedule.from_csv(kept)
    assert schedule.compute.ranks == Schedule.from_csv(tables.dumped(name, 2, 4, v, path)).ranks
    assert simulate(schedule, Cost()).duration > 0


MARK = "\N{BOM}"
AS_IT_COMES = {
    "a mark in front": lambda text: MARK + text,
    "two files in one": lambda text: MARK + text.replace("\n", f"\n{MARK}", 1),
    "Windows": lambda text: MARK + text.replace("\n", "\r\n"),
    "quotes": lambda text: text.replace("0F0", '"0F0"'),
    "wide": lambda text: text.replace(",", " ,\t"),
}


@pytest.mark.parametrize("written", AS_IT_COMES.values(), ids=AS_IT_COMES)
def test_what_spreadsheets_and_editors_add_changes_nothing(written):
    ours = one_f_one_b(2, 3)
    assert Schedule.from_csv(written(ours.to_csv())).ranks == ours.ranks


@pytest.mark.parametrize("between", [";", "\t", " "])
def test_another_sign_than_a_comma_is_named(between):
    text = MARK + one_f_one_b(2, 3).to_csv().replace(",", between)
    with pytest.raises(ScheduleError, match="A comma stands between two tokens"):
        Schedule.from_csv(text)

"""The schedule editor without a browser: what it says of a schedule, and that it runs it."""

import importlib
import json
import time

import pytest

from pipelab.errors import ScheduleError, TraceError
from pipelab.schedules import (
    Schedule,
    dual_pipe_v,
    gpipe,
    interleaved,
    one_f_one_b,
    v_half,
    v_min,
    zero_bubble_h1,
    zero_bubble_v,
)
from pipelab.simulator import Cost, best_schedule, simulate
from pipelab.widgets import ScheduleEditor
from pipelab.widgets.editor_text import judged
from pipelab.widgets.settings import PACE
from pipelab.widgets.stored_state import MIME, unpacked
from pipelab.words import time_text


@pytest.fixture
def editor():
    editor = ScheduleEditor(one_f_one_b(2, 2))
    yield editor
    editor.close()


def wait_for(condition) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.01)


def test_its_value_is_a_schedule(editor):
    assert editor.schedule.ranks == one_f_one_b(2, 2).ranks
    assert editor.can_run and "predicted bubble 33.3 %" in editor.message
    assert editor.head["source"] == "predicted"
    editor.set_state({"rows": [[a.token for a in row] for row in gpipe(2, 2).ranks]})
    assert editor.schedule.ranks == gpipe(2, 2).ranks and editor.can_run


@pytest.mark.parametrize(
    ("rows", "words", "marks"),
    [
        (["0B0 0F0", "1F0 1B0"], "runs 0B0 (place 1) before 0F0", ["0B0", "0F0"]),
        (["0F0 0B0 0F1 0B1", "1F1 1F0 1B0 1B1"], "deadlock", ["0B0", "1F1"]),
        (["0F0", "1F0 1B0"], "found 1 F, 0 B, 0 I, 0 W", ["0F0"]),
        (["0F0 0B0 0F0", "1F0 1B0"], "found 2 F", ["0B0", "0F0"]),
        (["0F0 0X0", "1F0 1B0"], "'0X0' is no token", []),
        (["0F0 0B0", ""], "rank 1 has no actions", []),
    ],
)
def test_a_refusal_is_explained_with_its_tokens_marked(editor, rows, words, marks):
    data = editor.data
    editor.set_state({"rows": [row.split() for row in rows]})
    assert not editor.can_run and words in editor.message
    assert editor.marks == marks
    assert editor.data == data, "the last picture that was right stays"
    editor.run()
    assert editor.state == "idle" and editor.trace is None
    editor.set_state({"rows": [["0F0", "0B0"], ["1F0", "1B0"]]})
    assert editor.can_run and editor.marks == []


def test_every_edit_is_answered_also_with_the_same_words(editor):
    refused, answers = [["0F0", "0B0"], []], editor.checked
    editor.set_state({"rows": refused})
    said = editor.message
    editor.set_state({"rows": [["0F0", "0B0", "0F1"], []]})
    assert editor.message == said and "rank 1 has no actions" in said
    assert editor.checked == answers + 2


def test_it_says_what_is_known_of_a_schedule(editor):
    lines = editor.message.splitlines()
    assert lines[1] == "It holds at most 2, 1 microbatches on ranks 0 to 1."
    assert lines[-1].startswith("Its order is 1F1B")
    best = best_schedule(2, 2, PACE, 2).duration
    assert f"Par is {time_text(best)} with at most 2 held" in editor.message
    assert any(line.startswith("Longest bubble: rank ") for line in lines)
    swapped = [["0F0", "0F1", "0B1", "0B0"], ["1F0", "1F1", "1B1", "1B0"]]
    editor.set_state({"rows": swapped})
    assert "GPipe" in editor.message and "hold" in editor.message
    editor.set_state({"rows": [[a.token for a in row] for row in zero_bubble_h1(2, 2).ranks]})
    assert "this is as short" in editor.message


def test_a_block_is_stamped_with_a_period(editor):
    editor.set_state({"stamp": [1, 3, 6]})
    assert editor.schedule.ranks == one_f_one_b(2, 6).ranks
    assert "6 microbatches" in editor.message
    editor.set_state({"stamp": [2, 2, 6]})
    assert "the period is 2" in editor.message and editor.can_run
    assert editor.schedule.ranks == one_f_one_b(2, 6).ranks, "a refusal changes nothing"
    editor.set_state({"rows": [["0F0", "0I0", "0W0"], ["1F0", "1I0", "1W0"]]})
    editor.set_state({"stamp": [3, 3, 9]})
    assert editor.can_run and editor.schedule.num_microbatches == 9
    editor.set_state({"rows": [["0F0", "1F0", "2F0", "2B0", "1B0", "0B0"]]})
    editor.set_state({"stamp": [4, 9, 4]})
    assert editor.can_run, "on one rank nothing waits"
    editor.rows = [["0B0"], ["1F0", "1B0"]]
    with pytest.raises(ScheduleError):
        editor.stamp_block(3, 2)


def test_its_csv_is_what_torchtitan_loads(editor, tmp_path):
    """torchtitan hands the file of pipeline_parallel_schedule_csv to this loader of torch's."""
    tables = importlib.import_module("tests.schedules.torch_tables")
    editor.set_state({"rows": [[a.token for a in row] for row in zero_bubble_v(2, 4).ranks]})
    editor.rows = [editor.rows[0], [*editor.rows[1][:-2], *reversed(editor.rows[1][-2:])]]
    assert editor.can_run and "your own" in editor.message
    runtime = tables.load(Schedule.from_csv(editor.csv), tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_text() == editor.csv
    assert tables.computation(runtime.pipeline_order) == editor.rows
    editor.rows = [["0B0"], ["1F0"]]
    with pytest.raises(ScheduleError):
        _ = editor.csv


def test_its_message_had_another_name(editor):
    with pytest.warns(DeprecationWarning, match="now ScheduleEditor.message"):
        assert editor.verdict == editor.message != ""


def test_a_row_with_no_token_has_no_value(editor):
    editor.rows = [["0Q0"]]
    with pytest.raises(ScheduleError, match="is no token"):
        _ = editor.schedule


def test_run_it_records_it_on_real_ranks():
    mine = [["0F0", "0F1", "0B1", "0B0"], ["1F0", "1F1", "1B1", "1B0"]]
    editor = ScheduleEditor(Schedule.from_tokens(mine))
    try:
        editor.set_state({"run_asked": 1})
        assert editor.state == "running"
        wait_for(lambda: editor.state == "idle")
        assert editor.trace.source == "recorded" and "real ranks" in editor.message
        order = [f"{e.stage}{e.kind}{e.microbatch}" for e in editor.trace.events if e.rank == 1]
        assert [token for token in order if token in mine[1]] == mine[1]
        assert editor.head["source"] == "recorded" and editor.ghost_head["source"] == "predicted"
    finally:
        editor.close()


def test_export_saves_the_picture_that_is_shown(editor):
    sent = []
    editor.send = lambda content, buffers: sent.append((content, *buffers))

    def exported() -> str:
        editor._handle_custom_msg({"ask": "page"}, [])
        return sent.pop()[1].decode()

    assert "Predicted timeline" in exported()
    editor.run()
    wait_for(lambda: editor.state == "idle")
    assert "Recorded timeline" in exported()
    editor.set_state({"rows": gpipe(2, 2).tokens})
    assert "Predicted timeline" in exported()


def test_an_edit_stops_the_run(editor):
    editor.run()
    editor.set_state({"rows": [["0F0", "0B0"], ["1F0", "1B0"]]})
    assert editor.state == "idle" and editor.trace is None


def test_it_is_readable_without_a_kernel(editor):
    data, _ = editor._repr_mimebundle_()
    assert data["text/plain"].splitlines()[0] == "rank 0  0F0 0F1 0B0 0B1"
    story, state = unpacked(data[MIME])  # what is predicted of it plays on a page without kernel
    assert story == "" and json.loads(state)["head"]["schedule"] == "custom"
    assert repr(editor) == "ScheduleEditor(2 ranks, 8 actions)"


def test_what_overlaps_is_one_token():
    schedule = dual_pipe_v(1, 3)
    editor = ScheduleEditor(schedule)
    assert "(1F1;0B0)OVERLAP_F_B" in editor.rows[0]
    assert editor.schedule.overlaps == schedule.overlaps
    assert "Its order is DualPipeV" in editor.message
    row = editor.rows[0]
    editor.rows = [[*row[:-1], row[0]]]  # the last W replaced by another F
    assert not editor.can_run
    assert row[0] in editor.marks


def said_of(schedule, cost):
    return judged(schedule, simulate(schedule, cost), cost)


def test_par_of_several_stages_a_rank_is_that_of_all_schedules():
    """In times of one stage: a rank of a V has two of them."""
    assert "by zero bubble V; this is as short." in ScheduleEditor(zero_bubble_v(2, 4)).message
    said = said_of(v_half(4, 8), Cost(0.005, 0.006, 0.004))
    assert "Par is 311 ms with at most 3 held, by V-Half; this is as short." in said
    said = said_of(interleaved(4, 8), Cost(0.005, 0.005, 0.005, latency=0.001))
    assert "with at most 6 held, by zero bubble V; this takes" in said
    assert "Par is" not in said_of(v_min(2, 4), Cost([1, 2, 1, 1]))  # not that of a rank's slice
    bytes_of_stages = Cost(activation_bytes=[1, 2, 3, 4])
    assert "Par is" in said_of(v_min(2, 4), bytes_of_stages)


def test_what_ranks_hold_can_be_drawn_at_each_edit():
    assert ScheduleEditor(gpipe(2, 2)).show == []
    assert ScheduleEditor(gpipe(2, 2), show=["memory"]).show == ["memory"]
    with pytest.raises(TraceError, match="none of"):
        ScheduleEditor(gpipe(2, 2), show=["bubbles"])


def test_a_bubble_from_the_start_on_has_no_time():
    assert "rank 1, 10 ms, from the start on:" in ScheduleEditor(zero_bubble_v(2, 4)).message

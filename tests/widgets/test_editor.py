"""The schedule editor without a browser: what it says of a schedule, and that it runs it."""

import time

import pytest

from pipelab.errors import ScheduleError
from pipelab.schedules import Schedule, gpipe, one_f_one_b
from pipelab.widgets import ScheduleEditor


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
        (["0B0 0F0", "1F0 1B0"], "runs 0B0 (position 0) before 0F0", ["0B0", "0F0"]),
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
    said, answers = editor.message, editor.checked
    editor.set_state({"rows": [["0F0", "0F1", "0B1", "0B0"], ["1F0", "1F1", "1B1", "1B0"]]})
    assert editor.message.replace("33.3", "") == said.replace("33.3", "")
    assert editor.checked == answers + 1
    editor.set_state({"rows": [["0F0"], ["1F0", "1B0"]]})
    assert not editor.can_run and editor.checked == answers + 2


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


def test_an_edit_stops_the_run(editor):
    editor.run()
    editor.set_state({"rows": [["0F0", "0B0"], ["1F0", "1B0"]]})
    assert editor.state == "idle" and editor.trace is None


def test_it_is_readable_without_a_kernel(editor):
    data, _ = editor._repr_mimebundle_()
    assert data["text/plain"].splitlines()[0] == "rank 0  0F0 0F1 0B0 0B1"
    assert repr(editor) == "ScheduleEditor(2 ranks, 8 actions)"

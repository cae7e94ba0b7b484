"""Fresh processes, the progress file, predictions, hints: what every lesson uses."""

import json
import multiprocessing
import os
import re
import time
import warnings
from dataclasses import replace
from threading import Thread

import nbclient
import nbformat
import pytest

from pipelab.cli.main import main
from pipelab.errors import LessonError, ScheduleError
from pipelab.lessons import check, hint, predict, predicted, progress_file, reveal
from pipelab.lessons.answer_process import _BUSY, NOT_TRIED, _is_busy, call
from pipelab.lessons.chapters import questions_of
from pipelab.lessons.chapters.ch01_relay import MINUTE
from pipelab.lessons.questions import Choice, Choose
from pipelab.lessons.results import Result, Shown, Verdict
from pipelab.lessons.schedule_answers import refused
from pipelab.lessons.trials import trial
from pipelab.schedules import gpipe, one_f_one_b, zero_bubble_h1
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELAB_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


# ------------------------------------------------------------------------- fresh processes


def test_values_come_back_and_the_caller_is_untouched(capfd):
    seen = []

    def f(a, b):
        print("a learner prints")
        seen.append(a)
        return {"sum": (a + b, range(2))}

    outcomes = call(f, [(1, 2), (3, 4)])
    assert [o.value for o in outcomes] == [{"sum": [3, [0, 1]]}, {"sum": [7, [0, 1]]}]
    assert seen == []
    assert capfd.readouterr() == ("", "")


def test_endless_loop_is_stopped_and_what_came_before_it_counts():
    def f(n):
        while n:
            pass
        return n

    start = time.monotonic()
    outcomes = call(f, [(0,), (1,), (0,)], seconds=1.0)
    limit = 1.0 * (_BUSY if _is_busy() else 1)  # other programs leave it less of the cores
    assert time.monotonic() - start < limit + 4.0
    assert outcomes[0].value == 0
    assert "still running after 1 s" in outcomes[1].problem
    assert outcomes[2].problem == NOT_TRIED
    assert "learner" not in [p.name for p in multiprocessing.active_children()]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda: exit(3), "calls exit()"),
        (lambda: os._exit(3), "its process ended"),
        (lambda: [][0], "IndexError"),
        (lambda: object(), "it returned a object"),
        (lambda: trial("gpipe", 2, 2), "it starts ranks"),
    ],
)
def test_harm_stays_in_its_process(harm, words):
    (outcome,) = call(harm, [()])
    assert words in outcome.problem


def test_an_answer_that_equals_everything_does_not():
    class Yes:
        def __eq__(self, other):
            return True

        __hash__ = object.__hash__

    assert not check("01.2", lambda costs, dishes, hand_over: Yes()).passed


# ------------------------------------------------------------------------------- verdicts


def test_verdict_without_results_is_not_passed():
    assert not Verdict("01.1", "t", ()).passed


def test_verdict_says_expected_and_got_in_text_and_html():
    rows = (Result("slots", "8", "<9>", False, "look at slot 3"), Result("dishes", "6", "6", True))
    verdict = Verdict("01.1", "order", rows)
    assert str(verdict).splitlines() == [
        "01.1 order: not yet, 1 of 2",
        "    what    expected  got",
        "NO  slots   8         <9>",
        "ok  dishes  6         6",
        "slots: look at slot 3",
    ]
    html = verdict._repr_html_()
    assert "where to look" in html
    assert "&lt;9&gt;" in html and "<9>" not in html and "look at slot 3" in html


def test_a_column_without_words_takes_no_room():
    html = Verdict("01.1", "order", (Result("dishes", "6", "6", True),))._repr_html_()
    assert "where to look" not in html and html.count('scope="col"') == html.count("<td") + 1


@pytest.mark.parametrize(
    ("error", "got", "where"),
    [
        ("'F0' is no token: write 2F0", "'F0' is no token", "write 2F0"),
        ("deadlock: none can go on\n  rank 0\nmove", "deadlock: none can go on", "  rank 0\nmove"),
    ],
)
def test_what_an_error_says_stands_once_in_a_row(error, got, where):
    """The same sentence stood in two columns, of each of six rows."""
    row = refused("4 ranks", "34.5 slots", ScheduleError(error))
    assert (row.got, row.remark, row.ok) == (got, where, False)


# --------------------------------------------------------------------------------- progress file


def test_progress_counts_attempts_and_keeps_what_was_passed(home):
    for passed, failed in ((False, ["slots"]), (True, []), (False, ["slots"])):
        progress_file.add_attempt("01.1", passed, failed)
    row = json.loads((home / "progress.json").read_text())["checks"]["01.1"]
    assert row == {"attempts": 3, "passed": True, "failed": ["slots"]}


def test_two_notebooks_at_once_lose_nothing():
    def attempts():
        for _ in range(20):
            progress_file.add_attempt("01.1", False, [])

    threads = [Thread(target=attempts) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progress_file.load()["checks"]["01.1"]["attempts"] == 80


DAMAGED = {
    "": "it is empty",
    "{": "no JSON from line 1, column 2 on",
    "[]": "no JSON object",
    '{"checks": {"01.1": 3}}': '"01.1" in "checks" is no JSON object',
    '{"checks": 3}': '"checks" is no JSON object',
    '{"checks": {"01.1": {"attempts": "two"}}}': '"attempts" of "01.1" in "checks" is not a whole',
    '{"checks": {"01.1": {"attempts": 2.5}}}': '"attempts" of "01.1" in "checks" is not a whole',
    '{"checks": {"01.1": {"passed": "no"}}}': '"passed" of "01.1" in "checks" is not true or',
    "[" * 100_000: "nested too deeply",
    "\udcff": "no UTF-8 text from byte 0 on",
}


@pytest.mark.parametrize("text", DAMAGED)
def test_damaged_progress_file_is_renamed_each_time(home, text):
    home.mkdir()
    names = ("progress.damaged.json", "progress.damaged1.json")
    for name in names:
        (home / "progress.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.warns(UserWarning, match=f"was damaged .*{DAMAGED[text]}"):
            progress_file.add_attempt("01.1", True, [])
        assert progress_file.load()["checks"]["01.1"]["passed"]
        assert (home / name).read_bytes() == text.encode("utf-8", "surrogateescape")
    assert {path.name for path in home.glob("*.json")} == {"progress.json", *names}


def test_a_progress_file_that_cannot_be_read_is_left_alone(home):
    (home / "progress.json").mkdir(parents=True)
    with pytest.warns(UserWarning, match="progress is not kept"):
        progress_file.add_attempt("01.1", True, [])
    assert (home / "progress.json").is_dir()
    with pytest.warns(UserWarning, match="cannot be read .*: what it holds is not shown"):
        assert progress_file.load()["checks"]["01.1"]["attempts"] == 1, "remembered here"


def test_looking_at_damaged_progress_changes_nothing(home, capsys):
    home.mkdir()
    (home / "progress.json").write_text("{")
    with pytest.warns(UserWarning, match="cannot be read"):
        assert progress_file.saved_prediction("01") is None
    assert main(["progress"]) == main(["progress", str(home / "progress.json")]) == 1
    said = capsys.readouterr().err
    assert said.count("no JSON from line 1, column 2 on") == said.count("left as it is") == 2
    assert [path.name for path in home.iterdir()] == ["progress.json"]
    assert main(["progress", "--reset"]) == 1, "what is damaged is not forgotten"
    assert "no JSON from line 1" in capsys.readouterr().err
    assert (home / "progress.json").read_text() == "{"


def test_a_file_that_an_editor_has_marked_is_read(home):
    home.mkdir()
    text = json.dumps({"checks": {"01.1": {"attempts": 2, "passed": True}}})
    (home / "progress.json").write_text(text, "utf-8-sig")
    progress_file.add_attempt("01.1", False, [])
    assert progress_file.load()["checks"]["01.1"]["attempts"] == 3
    assert not [*home.glob("*damaged*")]


def test_what_cannot_be_written_is_remembered_and_written_later(home, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device")

    progress_file.add_attempt("01.1", False, [])
    before = (home / "progress.json").read_text()
    with monkeypatch.context() as patch, pytest.warns(UserWarning) as warned:
        patch.setattr(progress_file, "replace_text", full)
        progress_file.add_attempt("01.1", True, [])
        assert [progress_file.count_hint("01.1") for _ in range(3)] == [1, 2, 3]
        assert progress_file.load()["checks"]["01.1"] == {
            "attempts": 2,
            "passed": True,
            "failed": [],
        }
    words = "progress is not kept (No space left on device): this kernel remembers it"
    assert {str(one.message)[: len(words)] for one in warned} == {words}
    assert (home / "progress.json").read_text() == before
    progress_file.save_prediction("01", 8)
    saved = json.loads((home / "progress.json").read_text())
    assert saved["checks"]["01.1"]["attempts"] == 2 and saved["hints"]["01.1"]["asked"] == 3
    assert saved["predictions"]["01"]["value"] == 8
    progress_file.save_prediction("02", "a")
    assert progress_file.load()["checks"]["01.1"]["attempts"] == 2, "nothing is counted twice"


def test_a_reset_that_cannot_be_written_forgets_nothing(home, monkeypatch, capsys):
    def full(path, text):
        raise OSError(28, "No space left on device")

    progress_file.add_attempt("01.1", True, [])
    before = (home / "progress.json").read_text()
    monkeypatch.setattr(progress_file, "replace_text", full)
    assert main(["progress", "--reset"]) == 1
    said = capsys.readouterr()
    assert "No space left on device" in said.err and "forgotten" not in said.out
    assert (home / "progress.json").read_text() == before


def test_a_reset_is_of_the_own_progress_alone(home, tmp_path, capsys):
    progress_file.add_attempt("02.1", True, [])
    before = (home / "progress.json").read_text()
    assert main(["progress", str(tmp_path), "--reset", "2"]) == 1
    assert "--reset forgets your own progress" in capsys.readouterr().err
    assert main(["progress", "--reset", "3"]) == 0
    assert capsys.readouterr().out == "Nothing of lesson 3 was saved, so nothing is forgotten.\n"
    assert [path.name for path in home.glob("*.json")] == ["progress.json"]
    assert (home / "progress.json").read_text() == before


def test_parts_that_are_not_known_survive(home):
    home.mkdir()
    saved = {
        "checks": {"01.1": {"attempts": 1, "passed": True, "failed": [], "stars": 3}},
        "notes": {"mine": ["kept"]},
        "version": 7,
    }
    (home / "progress.json").write_text(json.dumps(saved))
    progress_file.add_attempt("01.1", False, ["slots"])
    found = json.loads((home / "progress.json").read_text())
    assert (found["notes"], found["version"]) == (saved["notes"], 7)
    assert found["checks"]["01.1"] == {
        "attempts": 2,
        "passed": True,
        "failed": ["slots"],
        "stars": 3,
    }


def test_a_link_to_a_progress_file_stays_a_link(home, tmp_path):
    home.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (home / "progress.json").symlink_to(tmp_path / "elsewhere" / "mine.json")
    progress_file.add_attempt("01.1", True, [])
    assert (home / "progress.json").is_symlink()
    assert json.loads((tmp_path / "elsewhere" / "mine.json").read_text())["checks"]


def test_a_user_without_a_home_is_checked_all_the_same(monkeypatch):
    for name in ("PIPELAB_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(progress_file.Path, "home", nowhere)
    with pytest.warns(UserWarning, match="set PIPELAB_HOME"):
        assert not check("01.1", ...).passed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not check("01.1", ...).passed, "a notebook may make errors of warnings"
    assert main(["progress"]) == 1


def test_a_class_in_one_table(monkeypatch, tmp_path, capsys):
    for learner, attempts in (("ann", [True]), ("bob|x", [False, False])):
        monkeypatch.setenv("PIPELAB_HOME", str(tmp_path / "class" / learner))
        for passed in attempts:
            progress_file.add_attempt("01.1", passed, [])
    progress_file.add_attempt("02.1", True, [])
    (tmp_path / "class" / "cleo.json").write_text("{")
    (tmp_path / "class" / "ann.json").write_text('{"checks": {"02.1": {"attempts": 4}}}')
    assert main(["progress", str(tmp_path / "class")]) == 0
    out = capsys.readouterr().out
    assert "| learner | passed | 01.1 | 02.1 |" in out
    assert "| ann | 1 of 1 tried | 1 |  |" in out
    assert "| ann.json | 0 of 1 tried |  | 4 ? |" in out, "collected in two ways: both are shown"
    assert "| bob\\|x | 1 of 2 tried | 2 ? | 1 |" in out
    assert "| cleo | cannot be read" in out
    assert "| **passed by** |  | 1 | 1 |" in out
    assert (tmp_path / "class" / "cleo.json").read_text() == "{"

    assert main(["progress", str(tmp_path / "class" / "ann" / "progress.json")]) == 0
    assert "| 01.1 | passed | 1 | 0 |" in capsys.readouterr().out
    assert main(["progress", str(tmp_path / "nowhere")]) == 1
    assert f"there is no progress file {tmp_path / 'nowhere'}" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["progress", str(tmp_path / "empty")]) == 1
    assert "holds no progress files" in capsys.readouterr().err


def test_control_characters_of_a_progress_file_reach_no_terminal(tmp_path, capsys):
    """A teacher reads files that learners handed in."""
    checks, value = r'{"\u001b[31m01.1": {}}', r'"\u202e\u0000 \ud800"'
    file = tmp_path / "eve.json"
    file.write_text(f'{{"checks": {checks}, "predictions": {{"04": {{"value": {value}}}}}}}')
    assert main(["progress", str(tmp_path)]) == 0
    assert main(["progress", str(file)]) == 0
    out = capsys.readouterr().out
    assert all(map(str.isprintable, out.splitlines()))
    assert out.count(r"\x1b[31m01.1") == 2 and r"\u202e\x00 \ud800" in out


def test_lesson_continues_where_nothing_can_be_written(home):
    home.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="progress is not kept"):
        progress_file.save_prediction("01", 8)


def test_progress_file_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.delenv("PIPELAB_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert progress_file.path() == tmp_path / "pipelab" / "progress.json"


# ---------------------------------------------------------------------- predictions, hints


def test_untouched_prediction_records_nothing():
    assert repr(predict("01", ...)).startswith("No prediction yet: write a number")
    assert progress_file.saved_prediction("01") is None


def test_prediction_meets_its_misconception():
    predict("01", 6)
    text = repr(reveal("01", 8.1))
    assert "Measured: 8.1 minutes. You predicted 6 minutes." in text
    assert "from the very first minute" in text
    assert progress_file.load()["predictions"]["01"] == {"value": 6.0, "measured": 8.1}


def test_right_prediction_is_confirmed():
    predict("01", 8)
    assert "well predicted" in repr(reveal("01", 8.1))


SWEEP = [0.75, 0.61, 0.45, 0.3, 0.2]  # the bubbles of a run, m = 1, 2, 4, 8, 16


def test_prediction_of_several_numbers_meets_its_misconception():
    predict("04", [0.75, 0.375, 0.1875, 0.09375, 0.046875])
    text = repr(reveal("04", SWEEP))
    assert "0.75 for m = 1, 0.61 for m = 2" in text and "0.38 for m = 2" in text
    assert "Half of it each time?" in text and "well predicted" not in text
    predict("04", [0.75, 0.6, 0.43, 0.27, 0.16])
    assert "well predicted" in repr(reveal("04", SWEEP))


@pytest.mark.parametrize("dots", [..., [...], [0.75, ..., 0.4, 0.3, 0.2]])
def test_dots_that_are_left_are_no_prediction(dots):
    assert repr(predict("04", dots)).startswith("No prediction yet: write a list of 5 numbers")
    assert progress_file.saved_prediction("04") is None


@pytest.mark.parametrize("shares", [0.3, [0.3], [0.75, 60, 43, 27, 16], "01234"])
def test_what_is_no_list_of_shares_is_refused(shares):
    with pytest.raises(LessonError, match=r"list of 5 numbers|write 60 % as 0\.6"):
        predict("04", shares)


def test_prediction_is_drawn_over_the_run():
    assert predicted("01") is predicted("03") is predicted("04") is None, "nothing was predicted"
    predict("01", 8)
    assert predicted("01") == pytest.approx(8 * MINUTE)  # seconds
    predict("01", 0)
    assert predicted("01") is None, "no line where the run begins"
    predict("03", 0.25)  # the share that each rank computes
    assert predicted("03") == {(4, 1): 0.75}
    predict("04", [0.75, 3, 0.4, 0.3, 0.2])
    assert predicted("04") == {(4, 1): 0.75, (4, 4): 0.4, (4, 8): 0.3, (4, 16): 0.2}
    predict("03.speed", "c")
    assert predicted("03.speed") is None, "a choice is not drawn"


def test_prediction_of_an_older_edition_is_not_drawn_and_does_no_harm():
    progress_file.save_prediction("04", 0.27)
    assert predicted("04") is None
    assert "You predicted" not in repr(reveal("04", SWEEP))


def test_as_many_are_measured_as_were_asked_for():
    with pytest.raises(LessonError, match="list of 5 numbers"):
        reveal("04", 0.3)
    with pytest.raises(LessonError, match="is one number"):
        reveal("03", SWEEP)


@pytest.mark.parametrize("value", ["eight", True, -1, float("nan")])
def test_prediction_that_is_no_number_is_refused(value):
    with pytest.raises(LessonError, match="is no number"):
        predict("01", value)


def test_choice_is_settled_by_what_was_measured():
    choices = {"a": Choice("faster", "Why a."), "b": Choice("as fast", "Why b.")}
    question = Choose("?", choices, lambda x: "a" if x > 1.5 else "b")
    assert question.explain("a", 1.0) == (
        "Measured: 1. That is 'b': as fast. You said 'a': faster. Why a. Why b."
    )
    assert question.explain("b", 1.0).endswith("You said so. Why b.")
    assert question.explain(None, 2.0).endswith("That is 'a': faster. Why a.")
    with pytest.raises(LessonError, match="write 'a' or 'b'"):
        question.accept("c")


def test_hints_come_one_at_a_time():
    said = [repr(hint("01.1")).partition(":")[0] for _ in range(4)]
    assert said == [f"Hint {n} of 3 for 01.1" for n in (1, 2, 3, 3)]


@pytest.mark.parametrize("name", ["99.1", "01.9", "", "nonsense"])
def test_unknown_exercise_is_refused_with_those_there_are(name):
    with pytest.raises(LessonError, match="01"):
        check(name, ...)


def test_progress_is_printed_as_markdown(capsys):
    check("01.1", ...)
    predict("01", 6)
    predict("04", [0.75, 0.6, 0.43, 0.27, 0.16])
    assert main(["progress"]) == 0
    out = capsys.readouterr().out
    assert "| 01.1 | not yet | 1 | 0 | an answer |" in out
    assert "| 01 | 6 | not yet |" in out
    assert "| 04 | 0.75, 0.6, 0.43, 0.27, 0.16 | not yet |" in out


def test_a_wrong_value_is_one_line_in_a_notebook(home):
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                "from pipelab.lessons import predict\n\npredict('06.speed', 'many')"
            )
        ]
    )
    client = nbclient.NotebookClient(notebook, allow_errors=True, kernel_name="python3")
    client.execute(env=os.environ)
    (output,) = notebook.cells[0].outputs
    words = "LessonError: 'many' is no number that fits here: write one such as 12 or 0.5"
    assert output.output_type == "error" and output.traceback == [words]


def test_a_prediction_of_another_form_is_answered_with_an_example_that_fits():
    assert "Your prediction is saved: 'b'." in repr(predict("05", " B"))
    assert "Your prediction is saved: 20." in repr(predict("06", 20))
    for name, value, words in (
        ("03", -1, "between 0 and 1, such as 0.3"),
        ("06", "12 layers", "such as 12 or 0.5"),
        ("04", [75, 60, 43, 27, 16], "75 is too large for a share: write 75 % as 0.75"),
    ):
        with pytest.raises(LessonError, match=words):
            predict(name, value)


def test_a_measurement_that_a_busy_machine_gave_is_not_explained_as_if_it_were_right():
    predict("06.speed", 3.4)
    text = repr(reveal("06.speed", 2.37))
    assert text.startswith("Measured: 2.37 times as fast. Your machine was busy")
    unspoiled = "An undisturbed run gives 3.37 times as fast. You predicted 3.4 times as fast: well"
    assert text.index(unspoiled) < text.index("16 × 4/19")
    assert "undisturbed" not in repr(reveal("06.speed", 3.2))
    shares = [0.9, 0.8, 0.75, 0.7, 0.6]
    assert "run the cells again" in repr(reveal("04", shares))


def test_a_choice_is_not_settled_by_a_busy_machine():
    """It said "That is 'c': twice as much work. You said so" of a forward that ran again."""
    predict("07.checkpoint", "c")
    text = repr(reveal("07.checkpoint", 1.75))
    assert "An undisturbed run gives 1.33 times the work. That is 'b'" in text
    assert "You said so" not in text
    assert "undisturbed" not in repr(reveal("07.checkpoint", 1.4))


def test_what_a_choice_expects_is_what_its_runs_give():
    """Of the lessons' own costs, by the simulator."""
    usual, heavy = one_f_one_b(4, 8), Cost([1, 1, 2, 1], [1, 1, 2, 1], [1, 1, 2, 1])
    even, links = Cost(4, 4, 4), Cost(4, 4, 4, latency=1)

    def of(cost, **more):
        return simulate(usual, cost, **more).duration

    far = simulate(one_f_one_b(4, 32), Cost(4, 4, 4, latency=8)).duration
    narrow = Cost(4, 4, 4, bandwidth=1e9, message_bytes=2e9)
    free, split = simulate(usual, even), simulate(zero_bubble_h1(4, 8), even)
    found = {
        "07.bubble": free.bubble_fraction / simulate(gpipe(4, 8), even).bubble_fraction,
        "08": of(heavy) / of(Cost()),
        "09": (of(links) - of(even)) / (of(links, overlap=False) - of(even)),
        "09.link": far / simulate(one_f_one_b(4, 32), narrow).duration,
        "11.halves": split.bubble_fraction * split.duration / of(even) / free.bubble_fraction,
    }
    for name, number in found.items():
        assert questions_of(name)[name].expected == pytest.approx(number, abs=0.005), name


def test_a_disturbed_run_is_named_first():
    calm = simulate(gpipe(2, 2), Cost())
    busy = Trace(calm.events, "recorded", replace(calm.setting, late=3, timed=8, lost=0.1))
    said = "Your machine was busy: 3 of 8 actions took longer than set. Run again. Measured: 0.25"
    assert repr(reveal("03", 0.25, calm, busy)).startswith(said)
    assert repr(reveal("03", 0.25, calm)).startswith("Measured")
    html = Verdict("09.1", "t", (), (Shown("Yours, 9 ms", calm), Shown("Yours, 99 ms", busy)))
    first, second = re.findall(r"<p>((?:<b>Your|Yours).*?)</p>", html._repr_html_())
    assert first == "Yours, 9 ms"
    assert second == f"<b>{said.removesuffix(' Measured: 0.25')}</b> Yours, 99 ms"

"""What the site is made of: stored timelines, gathered pages, recordings, dead links."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from pipelab.action import COMPUTE
from pipelab.cli.main import parse
from pipelab.cli.run import job_of
from pipelab.errors import LessonError, TraceError
from pipelab.schedules import gpipe, one_f_one_b
from pipelab.schedules.catalogue import BUILDERS
from pipelab.simulator import Cost, simulate
from pipelab.site import gallery, recorded_runs
from pipelab.site.dead_links import LARGEST, problems
from pipelab.site.pages import gather
from pipelab.site.playable import play_outputs, playable, player
from pipelab.site.public_names import PACKAGES, write_reference
from pipelab.story import STORIES
from pipelab.trace import Setting, Trace
from pipelab.widgets import Timeline
from pipelab.widgets.data import timeline_state
from pipelab.widgets.stored_state import MIME, stored, unpacked

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
RECORDINGS = NOTEBOOKS / "site" / "recordings"
TRACE = simulate(one_f_one_b(2, 3), Cost(0.01, 0.01, 0.01))


# ------------------------------------------------------------------------- stored timelines


def test_a_stored_timeline_comes_back_as_it_was_shown():
    shown = Timeline(TRACE, over=gpipe(2, 3), budget=1000)
    data, _ = shown._repr_mimebundle_()
    story, values = unpacked(json.loads(json.dumps(data[MIME])))
    state = json.loads(values)
    assert story == "" and state["head"] == json.loads(json.dumps(shown.head))
    assert state["show"] == ["memory", "prediction"] and state["ghost_head"]["schedule"] == "gpipe"


@pytest.mark.parametrize("damage", ["", "AAAA", "not base64", None])
def test_a_damaged_one_is_refused(damage):
    with pytest.raises(TraceError, match="damaged"):
        unpacked({"story": "", "state": damage})
    entry = stored(timeline_state(TRACE))[MIME]
    with pytest.raises(TraceError, match="damaged"):
        unpacked(entry | {"state": entry["state"][:-40]})


def notebook_with(*outputs: dict) -> nbformat.NotebookNode:
    shown = [nbformat.v4.new_output("execute_result", data) for data in outputs]
    cells = [nbformat.v4.new_markdown_cell("# Lesson 99 · One"), nbformat.v4.new_code_cell("show")]
    cells[1].outputs = shown
    return nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})


def test_only_timelines_become_playable_and_no_widget_stays():
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "0"}}
    timeline = {**widget, **stored(timeline_state(TRACE), ""), "text/html": "<img>"}
    old = {**widget, "text/html": "<img alt='stored before'>"}
    notebook = notebook_with(timeline, old, {"text/plain": "3"})
    assert play_outputs(notebook) == 1
    first, second, third = (output.data for output in notebook.cells[1].outputs)
    assert 'class="pipelab-timeline"' in first["text/html"] and "<img>" in first["text/html"]
    assert second == {"text/html": "<img alt='stored before'>"} and third == {"text/plain": "3"}


def test_names_in_a_trace_end_no_script():
    event = TRACE.events[0]
    html = playable(Trace((event,), "recorded", Setting("</script><script>", 1, 1)))
    assert html.count("</script>") == 1 and "\n" not in html


def test_the_player_speaks_each_story_and_is_no_module():
    code = player()
    assert all(f'pipelabViews["{story}"] = ' in code for story in ("", *STORIES))
    assert "export " not in code.replace("export_", "") and "import " not in code


# ---------------------------------------------------------------------------------- gallery


@pytest.mark.parametrize("entry", gallery.RECORDED, ids=lambda entry: entry.name)
def test_a_recording_is_of_the_schedule_that_its_line_names(entry):
    names: dict = {}
    exec(gallery.PREAMBLE, names)
    asked: list = []
    names["record"] = lambda schedule, *pace, **options: asked.append((schedule, options))
    exec(entry.code, names)
    ((schedule, options),) = asked
    path = RECORDINGS / f"{entry.name}.json.gz"
    if "memory_budget" in options:
        text = RECORDINGS.joinpath(f"{entry.name}.txt").read_text("utf-8")
        assert f"of a budget of {options['memory_budget']:,}" in text
        return
    trace = Trace.load(path)
    assert trace.source == "recorded" and bool(trace.setting.paced) == ("pace" not in options)
    assert trace.setting.schedule == schedule.name
    assert trace.setting.steps == options.get("steps", 1)
    wanted = simulate(schedule, Cost(), steps=trace.setting.steps)
    assert actions_by_rank(trace) == actions_by_rank(wanted)


def actions_by_rank(trace: Trace) -> list[set[tuple]]:
    events = [e for e in trace.events if e.kind in COMPUTE]
    return [
        {(e.kind, e.stage, e.microbatch) for e in events if e.rank == rank}
        for rank in range(trace.num_ranks)
    ]


def test_gallery_shows_every_entry(tmp_path):
    gallery.write_gallery(tmp_path / "gallery.md", RECORDINGS, "<p>onward</p>")
    text = tmp_path.joinpath("gallery.md").read_text("utf-8")
    for entry in (*gallery.RECORDED, gallery.HANG, *gallery.PREDICTED):
        assert f"### {entry.title}\n\n{entry.words}" in text
    shown = len(gallery.RECORDED) + len(gallery.PREDICTED) - 1  # one is an error
    assert text.count('class="pipelab-timeline"') == shown
    assert "ran out of memory" in text and "Wait-for graph" in text


@pytest.mark.parametrize("name", ["heavy-last-stage", "slow-rank"])
def test_the_figures_of_published_jobs_are_those_of_their_timelines(name):
    entry = next(entry for entry in gallery.PREDICTED if entry.name == name)
    assert f"{100 * gallery.run(entry).bubble_fraction:.0f} %" in entry.words


# -------------------------------------------------------------- beside the playground's pictures


RUNS = [*recorded_runs.runs()]


def test_every_shipped_recording_is_one_that_the_page_asks_for():
    names = {path.name for path in (RECORDINGS / recorded_runs.FOLDER).iterdir()}
    assert names == {recorded_runs.file_of(run, RECORDINGS).name for run in RUNS}
    assert {run.schedule for run in RUNS} == set(BUILDERS)
    every = [path for path in RECORDINGS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in every) < 500_000


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_recording_is_of_the_run_that_its_line_makes(run):
    trace = recorded_runs.load(run, RECORDINGS)
    predicted = run.predicted(trace)
    assert trace.source == "recorded" and bool(trace.setting.paced) == run.paced
    assert actions_by_rank(trace) == actions_by_rank(predicted)
    job = job_of(parse(run.line.split()[1:]))
    assert job.schedule.name == trace.setting.schedule == run.schedule
    if run.paced:
        assert simulate(job.schedule, job.cost) == predicted
        work, wanted = (t.duration * (1 - t.bubble_fraction) for t in (trace, predicted))
        assert work == pytest.approx(wanted, rel=0.05), "each action took the set time"


def test_what_the_page_plays_has_the_prediction_and_names_the_differences():
    (run,) = (run for run in RUNS if run.name == "gpipe-4-8")
    state = json.loads(recorded_runs.shown(run, RECORDINGS))
    assert state["ghost_head"]["source"] == "predicted" and state["show"] == ["prediction"]
    assert "each action paced" in state["words"] and "predicted 330 ms" in state["words"]


def test_differences_are_named_by_their_size():
    slow = simulate(one_f_one_b(2, 3), Cost(0.01, 0.01, 0.02))
    said = recorded_runs.words(TRACE, replace(slow, source="recorded"))
    assert "predicted 120 ms (+33.3 %)" in said
    assert "Summed over the ranks: B +60 ms, " in said
    assert "Summed" not in recorded_runs.words(TRACE, TRACE)


# ------------------------------------------------------------------------------------ pages


def small_course(folder: Path) -> Path:
    """A folder of lessons with one that has a timeline."""
    folder.mkdir()
    shutil.copytree(NOTEBOOKS / "site", folder / "site")
    (folder / "guides").mkdir()
    pages = {
        "README.md": "# The course\n\n[guides](guides/), [all](../CONTRIBUTING.md), `[a](b.md)`\n",
        "guides/one.md": "# One\n\n[back](../README.md)\n",
    }
    for name, text in pages.items():
        folder.joinpath(name).write_text(text, "utf-8")
    lesson = notebook_with({**stored(timeline_state(TRACE)), "text/html": "<p>still</p>"})
    lesson.cells[0].source += "\n\nIt is $\\frac{p - 1}{m}$, or 3 $ and 4 $. [Dead](nowhere.md)"
    nbformat.write(lesson, folder / "99_one.ipynb")
    return folder


def test_gathered_pages_keep_links_and_need_no_network(tmp_path):
    course = small_course(tmp_path / "notebooks")
    assert gather(course, tmp_path / "source") == 1
    page = tmp_path.joinpath("source", "README.md").read_text("utf-8")
    assert "[guides](guides/index.md), all, `[a](b.md)`" in page
    lesson = nbformat.read(tmp_path / "source" / "99_one.ipynb", 4)
    assert "<mfrac>" in lesson.cells[0].source and "3 $ and 4 $" in lesson.cells[0].source
    assert "[Dead](nowhere.md)" in lesson.cells[0].source, "Sphinx is to see it"
    assert "pipelab lab 99" in lesson.cells[0].source
    home = tmp_path.joinpath("source", "index.md").read_text("utf-8")
    assert "pipelab-timeline" in home and "playground" not in home


def test_a_playground_is_named_where_there_is_one(tmp_path):
    course = small_course(tmp_path / "notebooks")
    gather(course, tmp_path / "source", playground=True)
    assert 'href="playground/index.html"' in (tmp_path / "source" / "index.md").read_text("utf-8")


def test_a_folder_without_lessons_is_refused(tmp_path):
    with pytest.raises(LessonError, match="no lessons"):
        gather(tmp_path, tmp_path / "source")


def test_reference_has_each_public_name_once(tmp_path):
    write_reference(tmp_path / "reference")
    texts = [tmp_path.joinpath("reference", f"{name}.md").read_text("utf-8") for name in PACKAGES]
    assert ".. autofunction:: pipelab.schedules.gpipe\n" in texts[0]
    assert ".. autoclass:: pipelab.engine.Pipeline\n   :members:\n" in "".join(texts)
    twice = [text for text in texts if "partition.Rows\n   :members:\n   :no-index:" in text]
    assert len(twice) == 1, "the engine has it, too"


# ------------------------------------------------------------------------------- dead links


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('<a href="other.html">', ""),
        ('<a href="other.html#here">', ""),
        ('<a href="#top"><p id="top">', ""),
        ('<a href="mailto:a@b.c"><a href="https://arxiv.org/abs/2104.04473">', ""),
        ('<img src="data:image/png;base64,AAAA">', ""),
        ('<a href="nowhere.html">', "dead link: nowhere.html"),
        ('<a href="../outside.html">', "dead link: ../outside.html"),
        ('<a href="other.html#there">', "no such place on the page: other.html#there"),
        ('<a href="#nowhere">', "no such place on the page: #nowhere"),
        ('<a href="/other.html">', "host's root"),
        ('<img src="nowhere.png">', "dead link: nowhere.png"),
        ('<script src="https://cdn.example/a.js"></script>', "loads https://cdn.example/a.js"),
        ('<script src="//cdn.example/a.js"></script>', "not of this site"),
        ('<link rel="stylesheet" href="https://cdn.example/a.css">', "not of this site"),
        ('<link rel="stylesheet" href="nowhere.css?v=1">', "dead link: nowhere.css"),
        ("<p>" + "x" * LARGEST + "</p>", "at most 1,000,000"),
    ],
)
def test_links_and_loads_of_a_page(tmp_path, body, words):
    tmp_path.parent.joinpath("outside.html").touch()
    tmp_path.joinpath("other.html").write_text('<p id="here">', "utf-8")
    tmp_path.joinpath("page.html").write_text(body, "utf-8")
    found = problems(tmp_path)
    assert len(found) == bool(words) and all(words in line for line in found)


def test_every_page_beside_the_lessons_is_in_a_list_of_pages():
    """Sphinx refuses one that is not, so the whole site would not be built."""
    lists = re.findall(
        r"```{toctree}\n(.*?)```", (NOTEBOOKS / "site/index.md").read_text("utf-8"), re.S
    )
    listed = {line for text in lists for line in text.splitlines() if not line.startswith(":")}
    assert {path.stem for path in NOTEBOOKS.glob("*.md")} <= listed

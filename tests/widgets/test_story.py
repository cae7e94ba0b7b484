"""A trace with a story is shown in its words and its unit, wherever it is shown."""

import re
from dataclasses import replace

import pytest

from pipelab.errors import ScheduleError, TraceError
from pipelab.lessons.chapters.ch01_relay import cook, forwards, kitchen_lab, with_backwards
from pipelab.plots import describe, plot_timeline, timeline_text
from pipelab.plots.terminal import table_html
from pipelab.simulator import Cost, simulate
from pipelab.story import MINUTE, STORIES, reworded
from pipelab.trace import Trace
from pipelab.trace.idle import explain_idle, idle_texts
from pipelab.trace.links import link
from pipelab.widgets import Timeline
from pipelab.widgets.bundle import script
from pipelab.widgets.page import timeline_page
from pipelab.widgets.phrases import PHRASES

OURS = re.compile(r"\b(ranks?|microbatch(es)?|stages?|bubble|memory|backwards?|B0|\d+ m?s)\b", re.I)


def kitchen(cooks: int, dishes: int, one_by_one: bool = False, hand_over: float = 0.0) -> Trace:
    order = [[f"{c}F{d}" for d in range(dishes)] for c in range(cooks)]
    cost = Cost(MINUTE, 0.0, 0.0, latency=hand_over * MINUTE)
    trace = simulate(with_backwards(order, one_by_one), cost)
    return forwards(Trace(trace.events, "recorded", replace(trace.setting, paced="a minute each")))


def texts(value: object) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for name, each in value.items() if name != "kinds" for text in texts(each)]
        case list() | tuple():
            return [text for each in value for text in texts(each)]
    return []


@pytest.mark.parametrize(
    ("cooks", "dishes", "one_by_one", "minutes"),
    [(3, 6, False, 8), (3, 12, False, 14), (3, 1, False, 3), (3, 6, True, 18), (5, 9, False, 13)],
)
def test_minutes_come_out_as_minutes(cooks, dishes, one_by_one, minutes):
    trace = kitchen(cooks, dishes, one_by_one)
    said = f"{minutes} min"
    assert said in describe(trace) and said in Timeline(trace).head["sentence"].replace("\xa0", " ")
    axis = plot_timeline(trace).axes[0]
    axis.figure.canvas.draw()
    labels = [label.get_text() for label in axis.get_xticklabels()]
    assert "0 min" in labels and all(label.endswith(" min") for label in labels)
    assert [label.get_text() for label in axis.get_yticklabels()][:2] == ["cook 0", "cook 1"]


def test_cooks_who_work_one_after_another_wait_and_no_machine_holds_them_up():
    """A third of the picture said "held up by this machine": waits for dropped backwards."""
    trace = kitchen(3, 6, one_by_one=True)
    assert {piece.reason for piece in explain_idle(trace)} == {"waiting", "done"}
    sentences = [text.sentence for text in idle_texts(link(trace), explain_idle(trace))]
    assert "waits for 0F1 of rank 0, held up by rank 2" in sentences


def test_an_exported_page_speaks_of_cooks():
    page = timeline_page(kitchen(3, 6), kitchen(3, 6))
    assert 'rank:"cook {rank}"' in page and 'rank:"rank {rank}"' not in page
    assert not re.search(r"\de-\d", page.split('id="state"')[1].split("</script>")[0])


def test_no_word_is_ours():
    trace = kitchen(3, 6, hand_over=0.5)
    widget = Timeline(trace, over=8 * MINUTE)
    figure = plot_timeline(trace)
    drawn = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    shown = [timeline_text(trace), describe(trace), trace.source_line, table_html(trace), *drawn]
    reasons = {"words", "reason", "phase", "unit"}
    head = {name: each for name, each in widget.head.items() if name not in ("schedule", "idle")}
    idle = {name: each for name, each in widget.head["idle"].items() if name not in reasons}
    for text in [*shown, *texts(head), *texts(idle)]:
        assert not OURS.search(text), text
    assert widget.head["memory"] is None, "nobody has said yet what is kept"


def test_the_browser_gets_the_story_s_words_too():
    ours, theirs = script("single"), script("single", "kitchen")
    assert "rank {rank}" in ours and "rank {rank}" not in theirs
    assert "cook {rank}" in theirs and '[[0.1,"min"]]' in theirs.replace(" ", "")
    assert Timeline(kitchen(2, 2))._esm == theirs


@pytest.mark.parametrize("story", STORIES)
def test_what_is_to_be_filled_in_stays(story):
    for text in PHRASES.values():
        assert re.findall(r"\{\w+\}", reworded(text, story)) == re.findall(r"\{\w+\}", text)
    assert reworded("250 ms, 1.5 s, F10 s", "kitchen") == "2.5 min, 15 min, F10 s"
    assert reworded("rank", "") == "rank"


def test_the_lab_of_the_kitchen_has_two_numbers_and_an_order():
    lab = kitchen_lab(cooks=2, dishes=3)
    try:
        assert lab.choices["labels"] == {
            "num_ranks": "Cooks",
            "num_microbatches": "Dishes",
            "schedule": "Order",
        }
        trace = lab.wait()
        assert trace.duration / MINUTE == pytest.approx(4, rel=0.3)
        assert {e.kind.value for e in trace.events} <= {"F", "SEND_F", "RECV_F", "WAIT"}
        assert lab.title == "Run 1: passed along, 2 cooks, 3 dishes." and not lab.session
        for text in [lab.title, lab.summary, *texts(lab.figures)]:
            assert not OURS.search(text), text
    finally:
        lab.close()


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ([["0F0", "0F1"], ["1F0"]], "cook 1 works on dish 1 0 times"),
        ([["0F0", "0F0"], ["1F0"]], "cook 0 works on dish 0 2 times"),
        ([["0F0"], ["0F0"]], "0F0 stands in the row of cook 1: cook 0 does it"),
    ],
)
def test_what_no_kitchen_can_do_is_refused_in_its_words(order, said):
    with pytest.raises(ScheduleError, match=said):
        cook(order)


def test_an_unknown_story_in_a_file_is_refused(tmp_path):
    trace = kitchen(2, 2)
    bad = Trace(trace.events, "recorded", replace(trace.setting, story="garage"))
    with pytest.raises(TraceError, match="story 'garage' is not known"):
        Trace.load(bad.save(tmp_path / "trace.json"))
    assert Trace.load(trace.save(tmp_path / "trace.json")) == trace

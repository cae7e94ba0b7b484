"""What the front end is given: the columns, the words, what is drawn over them, the file."""

import base64
import json
import re
import struct
import subprocess
import sys
from dataclasses import replace

import anywidget
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelab.action import COMPUTE, Kind
from pipelab.errors import TraceError
from pipelab.schedules import Schedule, gpipe, one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.trace import Event, Setting, Trace
from pipelab.trace.picture_rows import drawn_idle
from pipelab.widgets import Timeline, bundle
from pipelab.widgets.data import KINDS, head, packed, sentence
from pipelab.widgets.overlay import overlay
from pipelab.widgets.page import page, timeline_page
from pipelab.widgets.phrases import IDLE_LABELS
from pipelab.words import REASONS
from tests.traces import predictions, recorded_like, two_stages_a_rank

RECORDED = recorded_like(one_f_one_b(4, 8))
UNEVEN = simulate(gpipe(3, 4), Cost([0.01, 0.03, 0.01], 0.01, 0.01, latency=0.002))


def unpacked(data: bytes) -> list[tuple]:
    """The columns as rows, read with struct in place of array."""
    n = len(data) // 32
    columns = [struct.unpack_from(f"<{n}i", data, 4 * n * k) for k in range(5)]
    columns += [struct.unpack_from(f"<{n}f", data, 4 * n * k) for k in range(5, 8)]
    return list(zip(*columns, strict=True))


@given(predictions())
def test_the_columns_hold_every_event(trace):
    rows = unpacked(packed(trace.events))
    assert len(rows) == len(trace.events)
    for row, e in zip(rows, trace.events, strict=True):
        rank, kind, stage, microbatch, peer, start, end, size = row
        assert (rank, KINDS[kind], stage) == (e.rank, e.kind, e.stage)
        assert microbatch == (-1 if e.microbatch is None else e.microbatch)
        assert peer == (-1 if e.peer is None else e.peer)
        assert (start, end, size) == pytest.approx((e.start, e.end, e.bytes), rel=1e-6)


@pytest.mark.parametrize("trace", [RECORDED, UNEVEN, simulate(one_f_one_b(1, 1), Cost())])
def test_every_piece_of_idle_time_has_its_reason_in_words(trace):
    shown, pieces = head(trace)["idle"], drawn_idle(trace)
    assert len(shown["words"]) == len(pieces)
    for i, piece in enumerate(pieces):
        words = shown["texts"][shown["words"][i]]
        assert (shown["rank"][i], shown["reason"][i]) == (piece.rank, piece.reason)
        if piece.peer is None or piece.reason == "blocked":
            assert words == REASONS[piece.reason].rank
            continue
        rows = [e for e in trace.events if e.rank == piece.rank and e.kind in COMPUTE]
        following = next(e for e in sorted(rows, key=lambda e: e.start) if e.start >= piece.end)
        stage = following.stage + (-1 if following.kind is Kind.F else 1)
        needed = next(f"{stage}{k}{following.microbatch}" for k in "FBI" if f"{stage}{k}" in words)
        assert needed in words and f"rank {piece.peer}" in words
        assert shown["tokens"][shown["words"][i]] == needed
        labels = [label.format(token=needed) for label in IDLE_LABELS[piece.reason]]
        assert labels and all(needed in label and len(label) < len(words) for label in labels)


def test_a_chain_names_the_rank_that_holds_it_up():
    assert "waits for 2B0 of rank 2, held up by rank 3" in head(RECORDED)["idle"]["texts"]


def test_memory_is_bytes_where_measured_else_activations_counted():
    memory = head(RECORDED)["memory"]
    assert memory["unit"] == "bytes"
    assert (
        max(memory["curves"][3][1]) == 4800
    )  # 400+800+800 for good, 400 of these grown, 4 kB kept
    counted = head(simulate(one_f_one_b(4, 8), Cost()))["memory"]
    assert counted["unit"] == "activations"
    assert [max(values) for _, values in counted["curves"]] == [4, 3, 2, 1]


def test_the_sentence_says_what_one_looks_at():
    assert sentence(RECORDED).startswith("Recorded: what 4 ranks, real processes, did in one step")
    assert sentence(UNEVEN).startswith("Predicted, nothing ran: what 3 ranks would do")


def test_later_stages_of_a_rank_have_tints_of_their_own():
    kinds = {kind["name"]: kind for kind in head(recorded_like(two_stages_a_rank()))["kinds"]}
    assert len({fill for fill, _, _ in kinds["F"]["tints"]}) == 2


def test_the_head_is_json_and_small():
    many = simulate(one_f_one_b(8, 64), Cost(0.01, 0.01, 0.01, latency=0.001))
    assert len(json.dumps(head(many))) < 60 * len(many.events)


# ------------------------------------------------------------------------------- what is drawn over


def test_the_first_picture_has_boxes_and_idle_time_alone():
    assert Timeline(RECORDED).show == []
    assert Timeline(RECORDED, over=one_f_one_b(4, 8), budget=6000).show == ["memory", "prediction"]
    assert Timeline(RECORDED, over=0.5, show=("messages",)).show == ["messages"]
    with pytest.raises(TraceError, match="'recall' is none of messages, memory, prediction"):
        Timeline(RECORDED, show=("memory", "recall"))


def test_a_button_of_the_page_gets_the_page():
    shown, sent = Timeline(RECORDED), []
    shown.send = lambda content, buffers: sent.append((content, *buffers))
    shown._handle_custom_msg({"ask": "page"}, [])
    ((content, text),) = sent
    assert content == {"page": "1f1b-4-ranks-8-microbatches.html"}
    assert "default-src 'none'" in text.decode()


def test_over_a_trace_and_over_a_schedule():
    predicted = simulate(one_f_one_b(4, 8), Cost(0.010, 0.010, 0.010))
    above = overlay(RECORDED, predicted)
    assert above.trace is predicted
    assert above.numbers["heads"][1:3] == ["predicted", "recorded"]
    rows = {row[0]: row[1:] for row in above.numbers["rows"]}
    assert rows["duration"][0] == "330 ms" and rows["duration"][2].startswith("+")
    idle = [cell for name, cells in rows.items() if name.startswith("idle") for cell in cells[:3]]
    assert idle and not [cell for cell in idle if cell == "0 s"], "0 ms, beside times in ms"
    from_schedule = overlay(RECORDED, gpipe(4, 8)).trace
    assert from_schedule.source == "predicted" and from_schedule.setting.schedule == "gpipe"
    seen = [e.end - e.start for e in RECORDED.events if e.kind is Kind.F and e.rank == 0]
    priced = {e.end - e.start for e in from_schedule.events if e.kind is Kind.F and e.rank == 0}
    assert min(seen) <= min(priced) and max(priced) <= max(seen) + 1e-12


def test_over_a_guess():
    seconds = overlay(RECORDED, 0.5)
    assert seconds.guess["time"] == 0.5 and "500 ms" in seconds.guess["text"]
    share = overlay(UNEVEN, f"{100 * UNEVEN.bubble_fraction} %")
    assert share.guess["time"] == pytest.approx(UNEVEN.duration)
    assert share.numbers["rows"][0][-1] == "0.0 points"


def test_over_a_share_guessed_for_these_sizes():
    """Where the step would end, were as much of it idle: work / (1 - share)."""
    guesses = {(4, 8): 0.4, (4, 16): 0.1}
    above = overlay(RECORDED, guesses)
    assert above.line == (
        pytest.approx(RECORDED.duration * (1 - RECORDED.bubble_fraction) / 0.6),
        "your prediction: 40 % bubble",
    )
    assert above.words.startswith("You predicted 40 % bubble; it was ")
    assert above == overlay(RECORDED, "40 %")
    assert overlay(RECORDED, {}) == overlay(RECORDED, {(4, 16): 0.1}) == overlay(RECORDED, None)


def test_a_guess_far_from_the_truth_leaves_room_for_the_trace():
    for over in (60.0, {(4, 8): 0.95}, {(4, 8): 1.0}):
        above = overlay(RECORDED, over)
        assert above.line is None and above.guess is None
        assert above.numbers is not None and "You predicted" in above.words


def test_the_still_twin_draws_and_says_the_guess():
    shown = Timeline(RECORDED, over={(4, 8): 0.4})
    assert shown.head["guess"]["text"] == "your prediction: 40 % bubble"
    assert "You predicted 40 % bubble" in shown.head["alt"]
    data, _ = shown._repr_mimebundle_()
    assert data["image/png"] != Timeline(RECORDED)._repr_mimebundle_()[0]["image/png"]
    assert re.search('<img alt="[^"]*You predicted 40 % bubble; it was [^"]*"', data["text/html"])
    assert "<p>You predicted 40 % bubble; it was " in data["text/html"]
    assert data["text/plain"].splitlines()[-1].startswith("You predicted 40 % bubble")


@pytest.mark.parametrize("over", [{(4, 8): 1.2}, {(4, 8): "30 %"}, {8: 0.3}, {(4, 8): True}])
def test_shares_that_are_none_are_refused(over):
    with pytest.raises(TraceError, match=r"bubble fraction"):
        overlay(RECORDED, over)


@pytest.mark.parametrize("over", [0, -1.0, float("nan"), True, "30", "120 %", "-3 %", [1]])
def test_what_is_no_guess_is_refused(over):
    with pytest.raises(TraceError, match=r"30 %"):
        overlay(RECORDED, over)


def test_a_trace_of_other_ranks_is_drawn_over_it():
    timeline = Timeline(RECORDED, over=UNEVEN)
    assert timeline.ghost_head["ranks"] == 3 != timeline.head["ranks"]
    names = [row[0] for row in timeline.head["comparison"]["rows"]]
    counts = [trace.setting.microbatches for trace in (RECORDED, UNEVEN)]
    assert ("per microbatch" in names) == (counts[0] != counts[1])


def test_what_is_drawn_over_it_starts_with_it():
    late = [e._replace(start=e.start + 9, end=e.end + 9) for e in UNEVEN.events]
    timeline = Timeline(RECORDED, over=replace(UNEVEN, events=tuple(late)))
    assert timeline.ghost_data == Timeline(RECORDED, over=UNEVEN).ghost_data


# ------------------------------------------------------------------------------------- the file


def test_the_file_asks_nobody_and_is_small(tmp_path):
    path = Timeline(RECORDED, over=one_f_one_b(4, 8)).to_html(tmp_path / "step.html")
    text = path.read_text("utf-8")
    assert len(text) < 200_000
    assert "default-src 'none'" in text
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}, "a name of SVG, nothing to ask"


@given(st.text())
def test_no_name_ends_the_element_that_it_stands_in(name):
    evil = f"{name}</script><script>alert(1)</script><!--"
    text = page("const a = 1;", "", {"head": evil, "data": b"\x00\xff"}, evil, "")
    assert text.count("</script>") == 3 and "<!--" not in text
    state = re.search(r'id="state">(.*?)</script>', text, re.DOTALL)[1]
    assert json.loads(state.replace("<\\!--", "<!--"))["head"] == evil


def test_save_writes_the_still_picture(tmp_path):
    for name, start in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")):
        path = Timeline(UNEVEN).save(tmp_path / name)
        assert path.read_bytes().startswith(start)


def test_traces_without_events_or_length_are_shown_too():
    for events in ((), (Event(0, Kind.F, 0, 0, 0.5, 0.5),)):
        shown = Timeline(Trace(events, "recorded", Setting(ranks=2))).head
        assert shown["ranks"] == 2 and "Recorded" in shown["sentence"]


def test_the_front_end_is_one_module_without_imports():
    text = Timeline._esm
    assert not re.search(
        r"^import\b|\bimport ?\(|https?://(?!www\.w3\.org/2000/svg)|\beval\b", text, re.M
    )
    assert not re.search(r"innerHTML|\bfetch\b|XMLHttpRequest", text)
    assert len(text) < 58_000
    for path in bundle.FOLDER.iterdir():
        lines = path.read_text("utf-8").splitlines()
        assert len(lines) <= 400, path.name
    assert text.count("export default") == 1
    assert not re.search(r"url\(|@import", Timeline._css)


HEAVY = ("torch", "matplotlib", "anywidget", "ipywidgets", "IPython", "numpy", "PIL", "traitlets")
PURE = """
import sys
for name in {heavy!r}:
    sys.modules[name] = None  # as if it were not installed
from pipelab.schedules import one_f_one_b
from pipelab.simulator import Cost, simulate
from pipelab.trace import Trace
from pipelab.widgets.page import timeline_page
trace = Trace.load({trace!r})
predicted = simulate(one_f_one_b(4, 8), Cost(0.01, 0.01, 0.01))
text = timeline_page(trace, over=predicted, budget=6000)
open({page!r}, "w", encoding="utf-8").write(text)
"""


@pytest.fixture(scope="module")
def pure_page(tmp_path_factory):
    """The text of a page that was made where nothing heavy is installed."""
    folder = tmp_path_factory.mktemp("pure")
    trace = RECORDED.save(folder / "trace.json")
    script = PURE.format(heavy=HEAVY, trace=str(trace), page=str(folder / "page.html"))
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    return folder / "page.html"


def test_a_page_is_made_without_torch_matplotlib_or_anywidget(pure_page):
    text = pure_page.read_text("utf-8")
    predicted = simulate(one_f_one_b(4, 8), Cost(0.01, 0.01, 0.01))
    assert text == timeline_page(RECORDED, over=predicted, budget=6000)
    state = json.loads(re.search(r'id="state">(.*?)</script>', text, re.DOTALL)[1])
    assert base64.b64decode(state["data"]["base64"]) == packed(RECORDED.events)
    shown = Timeline(RECORDED, over=predicted, budget=6000)
    assert state["head"] == json.loads(json.dumps(shown.head))
    assert state["ghost_head"]["source"] == "predicted"
    assert "<table>" in text.split("<noscript>")[1].split("</noscript>")[0]


def test_the_widgets_are_loaded_when_they_are_first_used():
    script = """
import sys
import pipelab.widgets
assert not {"anywidget", "torch", "matplotlib"} & set(sys.modules)
assert not hasattr(pipelab.widgets, "nothing")
sys.modules["anywidget"] = None
try:
    from pipelab.widgets import Timeline
except ModuleNotFoundError as error:
    assert error.name == "anywidget", error
else:
    raise AssertionError("a widget without anywidget")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    from pipelab.widgets import ScheduleEditor, Timeline, TimelineLab

    for each in (ScheduleEditor, Timeline, TimelineLab):
        assert issubclass(each, anywidget.AnyWidget)


def test_schedule_over_uses_computing_costs_only():
    above = overlay(RECORDED, Schedule.from_csv(one_f_one_b(4, 8).to_csv()))
    computing = sum(e.end - e.start for e in above.trace.events if e.kind in COMPUTE)
    seen = sum(e.end - e.start for e in RECORDED.events if e.kind in COMPUTE)
    assert computing == pytest.approx(seen, rel=0.05)


@pytest.mark.parametrize("other", [one_f_one_b(2, 8), gpipe(8, 8)])
def test_a_schedule_of_other_stages_cannot_be_predicted_from_a_trace(other):
    with pytest.raises(TraceError, match=f"into {other.num_stages} stages, the trace has 4:"):
        overlay(RECORDED, other)

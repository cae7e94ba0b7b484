"""Plans on paper and on ranks: bytes, times, parameters; the same under torchrun; the report."""

import base64
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations, pairwise

import pytest
import torch

from pipelab.errors import LaunchError, LessonError, RankOutOfMemory
from pipelab.lessons import plan_run, torch_run
from pipelab.lessons.chapters.ch12_capstone import BUDGETS
from pipelab.lessons.plan_report import write_report
from pipelab.lessons.plan_run import MACHINE, Comparison, compare, run, text, the_model, tiny
from pipelab.lessons.plans import (
    SCHEDULES,
    Layer,
    Machine,
    Model,
    Plan,
    memory,
    par,
    plans,
    seconds,
    step_seconds,
)
from pipelab.lessons.torch_run import TorchRun, run_on_torch
from pipelab.trace import Trace

FLAGS = 4 * 78  # bytes: one float for each parameter travels with the averaged gradients
MESSAGE = 4 * 64 * 16  # bytes of one row: a rank in the middle of ZB-H2 keeps a third message
PIPELINE = Plan(1, [3, 2, 2, 1], "1f1b", 8)
SQUARE = Plan(2, [5, 3], "zero_bubble_h1", 4)
COPIES = Plan(4, [8], "1f1b", 2)


@pytest.fixture(scope="module")
def runs():
    return {plan.replicas: run(plan) for plan in (PIPELINE, SQUARE, COPIES)}


# -------------------------------------------------------------------------------- on paper


def test_even_layers_without_any_cost_but_work_take_the_formula():
    """p ranks, m microbatches: (m + p - 1) slots of F, I and W."""
    model = Model(8, [Layer(0.001, 1000, 10, 0)] * 4)
    machine = Machine(4, 0.0, 0.0, 1e12)
    assert seconds(machine, model, Plan(1, [1] * 4, "1f1b", 8)) == pytest.approx(11 * 0.003)
    assert seconds(machine, model, Plan(4, [4], "1f1b", 2)) == pytest.approx(8 * 0.003)


def test_the_average_follows_the_last_backward_and_travels_twice_round_the_ring():
    model = Model(8, [Layer(0.001, 1000, 10, 0)] * 4)
    machine = Machine(4, 0.0, 0.0, 1e6)
    alone = seconds(machine._replace(bandwidth=1e15), model, Plan(4, [4], "1f1b", 2))
    averaged = seconds(machine, model, Plan(4, [4], "1f1b", 2))
    assert averaged - alone == pytest.approx(2 * 3 / 4 * 4000 / 1e6)


def test_memory_is_weights_three_times_and_what_waiting_microbatches_keep():
    model = Model(8, [Layer(0.001, 1000, 10, 0)] * 4)
    assert memory(model, Plan(1, [1] * 4, "1f1b", 8)) == [3040, 3030, 3020, 3010]
    assert memory(model, Plan(1, [1] * 4, "gpipe", 8)) == [3080] * 4
    assert memory(model, Plan(4, [4], "1f1b", 2)) == [16_000]  # while it averages


def test_par_is_the_best_of_all_plans_and_no_cut_that_is_not_even_beats_it():
    model = the_model()
    for budget in (*BUDGETS.values(), 8_000_000):
        best = par(MACHINE, model, budget)
        times = [
            seconds(MACHINE, model, plan)
            for plan in plans(MACHINE, model)
            if max(memory(model, plan)) <= budget
        ]
        assert seconds(MACHINE, model, best) == min(times)
        others = [
            best._replace(sizes=[b - a for a, b in pairwise((0, *ends, 8))])
            for ends in combinations(range(1, 8), len(best.sizes) - 1)
        ]
        fits = [plan for plan in others if max(memory(model, plan)) <= budget]
        assert min(seconds(MACHINE, model, p) for p in fits) > 0.96 * min(times)


def test_no_plan_fits_into_nothing():
    with pytest.raises(LessonError, match=r"no plan fits into 1,000 bytes.*needs \d,\d{3},\d{3}"):
        par(MACHINE, the_model(), 1000)


# -------------------------------------------------------------------------------- on ranks


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_a_run_is_the_training_of_one_process_and_leaves_nothing(replicas, runs):
    done = runs[replicas]
    assert done.parameters.same == done.parameters.all == 78
    assert done.losses[-1] < done.losses[0] and done.left == 0
    assert done.trace.num_ranks == 4 and done.trace.source == "recorded"
    assert done.seconds >= 0.9 * done.on_paper_seconds  # a busy machine only makes it longer


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_no_rank_holds_more_than_the_paper_says(replicas, runs):
    done = runs[replicas]
    on_paper = memory(the_model(), done.plan) * replicas
    for held, most in zip(done.held, on_paper, strict=True):
        assert 0.95 * most <= held <= most + FLAGS
    if replicas == 1:  # 1F1B: to the byte on all ranks but the last, which sends no output
        assert [*done.held[:3]] == on_paper[:3]


@pytest.mark.slow
@pytest.mark.parametrize("plan", list(plans(MACHINE, the_model())), ids=str)
def test_every_plan_of_the_lesson_s_model_holds_what_the_paper_says(plan):
    done = run(plan)
    most = memory(the_model(), plan) * plan.replicas
    slack = FLAGS + MESSAGE
    assert all(held <= limit + slack for held, limit in zip(done.held, most, strict=True))
    assert max(done.held) >= 0.7 * max(most)  # m = 1: no gradients are there yet at the peak
    assert done.parameters.same == done.parameters.all


def test_a_plan_that_fits_on_paper_fits_its_budget_on_ranks():
    """No plan is so near a budget of the check that these few bytes decide, whatever its cut."""
    model = the_model()
    for replicas in (1, 2, 4):
        for ends in combinations(range(1, 8), 4 // replicas - 1):
            sizes = [b - a for a, b in pairwise((0, *ends, 8))]
            for m in (m for m in (1, 2, 4, 8, 16) if replicas * m <= 16):
                for schedule in SCHEDULES:
                    most = max(memory(model, Plan(replicas, sizes, schedule, m)))
                    assert not any(b - FLAGS - MESSAGE < most <= b for b in BUDGETS.values())


def test_a_budget_is_kept_by_the_ranks():
    with pytest.raises(RankOutOfMemory):
        run(SQUARE, budget=3_000_000)


def test_a_gradient_of_the_wrong_scale_is_seen():
    """The average over replicas, forgotten: momentum SGD moves twice as far."""
    state = {name: value.detach().clone() for name, value in tiny().named_parameters()}
    assert compare(state).same < 78
    model = tiny()
    sgd = plan_run.optimizer()(list(model.parameters()))
    inputs, targets = text()
    for _ in range(plan_run.STEPS):
        sgd.zero_grad()
        (2 * plan_run.next_byte_loss(model(inputs), targets)).backward()
        sgd.step()
    assert compare(dict(model.named_parameters())).same == 0


# ------------------------------------------------------------------------------- torchrun


def places(plan):
    p = len(plan.sizes)
    return [
        {
            "stage": rank % p,
            "layers": [sum(plan.sizes[: rank % p]), sum(plan.sizes[: rank % p + 1])],
            "pp_group": [rank // p * p + s for s in range(p)],
            "dp_group": [r * p + rank % p for r in range(plan.replicas)],
        }
        for rank in range(plan.replicas * p)
    ]


def test_torch_trains_the_same_under_torchrun(runs):
    done = run_on_torch(SQUARE, places(SQUARE))
    assert done.plan == SQUARE and done.parameters.same == 78
    assert done.losses == pytest.approx(runs[2].losses, rel=1e-4)


def test_ranks_of_a_grid_may_be_numbered_in_any_order():
    """The second replica backwards, and each rank first in its dp group: PyTorch sorts groups."""
    numbers = [0, 1, 3, 2]  # of the ranks that places() numbers row by row
    found = [{}, {}, {}, {}]
    for rank, place in enumerate(places(SQUARE)):
        pp_group, dp_group = (
            [numbers[r] for r in place[name]] for name in ("pp_group", "dp_group")
        )
        dp_group.sort(key=lambda other, own=numbers[rank]: other != own)
        found[numbers[rank]] = place | {"pp_group": pp_group, "dp_group": dp_group}
    assert run_on_torch(SQUARE, found).parameters.same == 78


def test_gradients_that_nobody_averages_are_seen():
    """Each replica trains on its own rows: parameters are others than one process's."""
    pair = Plan(2, [8], "1f1b", 4)
    alone = [place | {"dp_group": [rank]} for rank, place in enumerate(places(pair))]
    done = run_on_torch(pair, alone)
    assert done.parameters.same < 40


def test_a_script_that_fails_says_why():
    with pytest.raises(LaunchError, match="KeyError"):
        run_on_torch(Plan(1, [8], "1f1b", 1), [{"stage": 0}])


def test_the_script_is_torchs_own_but_for_model_and_text():
    source = torch_run._SCRIPT.read_text("utf-8")
    imports = re.findall(r"^(?:from|import) (pipelab\S*)", source, re.MULTILINE)
    assert imports == ["pipelab.models"]
    assert torch_run.script("joined").startswith("def joined(")
    assert torch_run.script("step").endswith("else None")


# ------------------------------------------------------------------------------ the report


class _Page(HTMLParser):
    """Texts, cells of tables, and the addresses of what a page loads."""

    def __init__(self, html):
        super().__init__()
        self.cells, self.loads, self.open = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href")]
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def test_the_report_says_what_ran_and_what_did_not(runs, tmp_path):
    page = write_report(runs[2], tmp_path / "mine", budget=4_000_000)
    assert {file.name for file in page.parent.iterdir()} == {
        *("report.html", "report.md", "timeline.png", "trace.json", "schedule.csv")
    }
    for words in (page.read_text("utf-8"), page.with_suffix(".md").read_text("utf-8")):
        assert "78 of 78 parameters equal" in words and "within the budget of 4,000,000" in words
        assert words.count("not run") == 4  # three cells of torch's row, and torchtitan
    row = "| torch.distributed.pipelining under torchrun | not run | not run | not run |"
    assert row in page.with_suffix(".md").read_text("utf-8")
    again = Trace.load(page.parent / "trace.json")
    assert step_seconds(again) == pytest.approx(runs[2].seconds)


def test_the_report_is_one_page_that_loads_nothing(runs, tmp_path):
    html = write_report(runs[4], tmp_path).read_text("utf-8")
    page = _Page(html)
    [picture] = page.loads
    assert picture.startswith("data:image/png;base64,")
    assert base64.b64decode(picture.partition(",")[2]) == (tmp_path / "timeline.png").read_bytes()
    assert "5.3 MB" in page.cells and "default-src 'none'" in html
    assert "<script" not in html and "/" + "tmp" not in html


def test_the_report_does_not_hide_a_failure(runs, tmp_path):
    broken = replace(runs[1], parameters=Comparison(70, 78, 0.5), left=2)
    report = write_report(broken, tmp_path, budget=2_000_000).with_suffix(".md").read_text("utf-8")
    assert "70 of 78 parameters equal, largest difference 5.0e-01" in report
    assert "ABOVE the budget of 2,000,000" in report
    assert "| processes left at the end | 0 | 2 |" in report


def test_the_run_of_another_plan_is_no_proof(runs, tmp_path):
    torchs = TorchRun(COPIES, (5.0, 4.0), Comparison(78, 78, 0.0))
    with pytest.raises(LessonError, match="run the same one on both"):
        write_report(runs[2], tmp_path, on_torch=torchs)
    assert not os.listdir(tmp_path)
    done = torchs._replace(plan=SQUARE)
    report = write_report(runs[2], tmp_path, on_torch=done).with_suffix(".md").read_text("utf-8")
    assert "| torch.distributed.pipelining under torchrun | 5.0000 | 4.0000 | 78 of 78" in report


def test_the_report_stands_beside_the_progress(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELAB_HOME", str(tmp_path))
    assert write_report(runs[2]) == tmp_path / "report" / "report.html"


def test_the_numbers_of_threads_and_random_numbers_are_left_as_they_were(runs):
    torch.manual_seed(7)
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    tiny(), text()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)

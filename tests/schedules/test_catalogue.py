"""The catalogue is the only list of schedules, and what it says on paper is what is predicted."""

import pytest

from pipelab.cli.main import main
from pipelab.schedules import Schedule, gpipe
from pipelab.schedules.catalogue import BUILDERS, Builder, Formula, paper_bubble
from pipelab.schedules.counts import peak_activations
from pipelab.simulator import Cost, simulate
from pipelab.widgets.lab_text import choices, curves
from pipelab.widgets.settings import Settings

SIZES = [(p, m) for p in (1, 2, 3, 4, 8) for m in (1, 2, 3, 4, 8, 16)]
FIXED = {"p": 4, "m": 8, "v": 2, "min": min}


@pytest.mark.parametrize("name", [name for name, b in BUILDERS.items() if b.bubble])
def test_a_bubble_on_paper_is_the_predicted_one(name):
    builder = BUILDERS[name]
    for p, m in SIZES if builder.bubble.value else [(4, 8)]:
        trace = simulate(builder.build(p, m, 2), Cost(1.0, 1.0, 1.0))
        formula = (
            builder.bubble.value(p, m, 2) if builder.bubble.value else worked_out(builder.bubble)
        )
        assert trace.bubble_fraction == pytest.approx(formula), f"p={p}, m={m}"


@pytest.mark.parametrize("name", [name for name, b in BUILDERS.items() if b.peak])
def test_a_peak_on_paper_is_that_of_the_fullest_rank(name):
    builder = BUILDERS[name]
    for p, m in SIZES if builder.peak.value else [(4, 8)]:
        peak = max(peak_activations(builder.build(p, m, 2)))
        assert peak == value(builder.peak, p, m), f"p={p}, m={m}"


@pytest.mark.parametrize("name", BUILDERS)
def test_a_formula_as_text_is_the_one_that_is_computed(name):
    for formula in (BUILDERS[name].bubble, BUILDERS[name].peak):
        if formula and formula.value:
            assert worked_out(formula) == formula.value(4, 8, 2)


def value(formula, p, m):
    return formula.value(p, m, 2) if formula.value else worked_out(formula)


def worked_out(formula):
    """The text, computed for p = 4, m = 8, v = 2."""
    text = formula.text.replace("−", "-").replace("vm", "v*m").replace("2p", "2*p")
    return eval(text.replace("3m", "3*m"), {}, FIXED)


def test_each_schedule_has_a_mark_and_a_title_that_no_other_has():
    assert len({builder.mark for builder in BUILDERS.values()}) == len(BUILDERS)
    assert len({builder.title for builder in BUILDERS.values()}) == len(BUILDERS)
    assert all(builder.title and builder.mark != "?" for builder in BUILDERS.values())


def test_torchs_names_are_torchs():
    from torch.distributed import pipelining

    named = [builder.torch for builder in BUILDERS.values() if builder.torch]
    assert len(named) >= 4
    assert all(hasattr(pipelining, name) for name in named)


def test_an_entry_is_all_that_a_new_schedule_needs(monkeypatch, capsys):
    entry = Builder(
        "dummy",
        lambda p, m: Schedule(gpipe(p, m).ranks, "dummy"),
        title="a dummy of GPipe",
        mark="D",
        bubble=Formula("1/4", lambda p, m, v: 0.25),
        peak=Formula("m", lambda p, m, v: m),
    )
    monkeypatch.setitem(BUILDERS, "dummy", entry)
    assert ("dummy", "a dummy of GPipe") in choices(Cost())["schedule"]
    assert Settings(2, 3, "dummy", None).build().num_microbatches == 3
    assert curves("dummy", 4, 8)["name"] == "a dummy of GPipe"
    assert paper_bubble("dummy", 4, 8) == ("1/4", 0.25)

    with pytest.raises(SystemExit):
        main(["simulate", "--help"])
    assert "dummy" in capsys.readouterr().out
    main(["simulate", "-p", "2", "-m", "3"])
    assert "dummy" in capsys.readouterr().out
    main(["show", "dummy"])
    shown = capsys.readouterr().out
    assert shown.startswith("dummy: 4 ranks, 8 microbatches")
    assert "on paper            bubble 1/4, activations m" in shown

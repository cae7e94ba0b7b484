"""A learner's schedule cannot hurt: refused before launch, or trained with right gradients."""

import random

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipelab.engine import Pipeline, verify_gradients
from pipelab.errors import PipelabError, ScheduleError
from pipelab.schedules import Schedule, gpipe, interleaved, one_f_one_b, validate, zero_bubble_h1
from pipelab.schedules.communication import lower

X, Y = torch.randn(12, 8), torch.randint(8, (12,))
STARTS = (
    gpipe(2, 3),
    one_f_one_b(3, 4),
    interleaved(2, 4, stages_per_rank=2),
    zero_bubble_h1(3, 4),
    lower(one_f_one_b(2, 3)),
)


def broken(rng):
    """A sound schedule after one to three random changes; some of them do no harm."""
    rows = [list(row) for row in rng.choice(STARTS).ranks]
    for _ in range(rng.randint(1, 3)):
        row = rng.choice([row for row in rows if row] or rows)
        if not row:
            continue
        i, j = rng.randrange(len(row)), rng.randrange(len(row))
        match rng.randrange(6):
            case 0:
                row[i], row[j] = row[j], row[i]
            case 1:
                row.insert(j, row.pop(i))
            case 2:
                del row[i]
            case 3:
                row.insert(j, row[i])
            case 4:
                rng.choice(rows).append(row.pop(i))
            case 5:
                row[i] = row[i]._replace(stage=rng.randrange(4))
    return Schedule(tuple(map(tuple, rows)))


def judge(seeds):
    """(refused, trained): what came of so many schedules."""
    refused = trained = 0
    for seed in seeds:
        schedule = broken(random.Random(seed))
        try:
            validate(schedule)
        except ScheduleError as error:
            refused += 1
            assert str(error)
            with pytest.raises(ScheduleError):  # the engine agrees, before any process starts
                Pipeline([nn.Linear(8, 8)] * 9, schedule, loss=cross_entropy)
            continue
        torch.manual_seed(seed)
        model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(schedule.num_stages)))
        try:
            report = verify_gradients(model, schedule, X, Y, cross_entropy)
        except PipelabError as error:
            raise AssertionError(f"seed {seed} passed validate: {error}") from error
        assert report.ok, f"seed {seed}: {schedule}"
        trained += 1
    return refused, trained


def test_some_broken_schedules():
    refused, trained = judge(range(60))
    assert refused > trained > 0


@pytest.mark.slow
def test_500_broken_schedules(capsys):
    refused, trained = judge(range(1000, 1500))
    with capsys.disabled():
        print(f"\n500 schedules: {refused} refused before launch, {trained} trained, all right")
    assert refused > trained > 0

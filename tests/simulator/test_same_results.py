"""Results, bit for bit: what any change that only makes it faster has to leave as it is."""

import hashlib

import pytest
from hypothesis import given, settings

from pipelab.action import RECEIVES
from pipelab.schedules import Schedule
from pipelab.schedules.catalogue import BUILDERS, build
from pipelab.schedules.communication import lower, timed_rows
from pipelab.simulator import Cost, simulate
from tests.schedules.strategies import valid_schedules

SIZES = [(1, 1, 1), (2, 3, 2), (4, 8, 2), (3, 7, 3), (5, 2, 1)]
BY_HAND = [
    ["0F0", "0SEND_F0", "0F1", "0SEND_F1", "0RECV_B0", "0B0", "0RECV_B1", "0B1", "0STEP"],
    ["1RECV_F0", "1F0", "1B0", "1RECV_F1", "1F1", "1SEND_B0", "1B1", "1SEND_B1", "1REDUCE_GRAD"],
]
DIGESTS = {
    "sequential": "5ff64de444ac1e02",
    "gpipe": "85e252e9887407f0",
    "1f1b": "138e7d53c3869131",
    "eager_1f1b": "ab4e67824adac8f9",
    "interleaved": "172a6fb15f973064",
    "looped_bfs": "ccf6d02ec61605a2",
    "zero_bubble_h1": "62cebe59679a4db5",
    "zero_bubble_h2": "05bd801b7dc75a60",
    "zero_bubble_v": "489e9985a3b9ee11",
    "dual_pipe_v": "5747e28b8e3d7baa",
    "v_half": "74d0b6bdcfb4f56a",
    "v_min": "6484d0ee0e5a3e5c",
    "by hand": "3376c417c8379a47",
}


def costs(num_stages):
    each = range(num_stages)
    yield Cost()
    yield Cost(0.1, 0.2, 0.3, latency=0.01, step=0.7, reduce=1.1)
    yield Cost(
        [0.3 + s / 7 for s in each],
        [0.2 + s / 11 for s in each],
        [0.1 + s / 13 for s in each],
        latency=0.1,
        bandwidth=7.0,
        message_bytes=[3 * s for s in each],
        activation_bytes=[5 + s for s in each],
    )


def digest(schedules):
    """Of the rows with messages, with one and two replicas, and of all events of predictions."""
    text = []
    for schedule in schedules:
        text += [lower(schedule, n, rendezvous=False).to_csv() for n in (1, 2)]
        for cost in costs(schedule.num_stages):
            for written in (schedule, lower(schedule, 2, rendezvous=False)):
                for overlap in (True, False):
                    events = simulate(written, cost, overlap).events
                    text += [repr((e.rank, str(e.kind), *e[2:])) for e in events]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", BUILDERS)
def test_every_builder_gives_what_it_gave(name):
    fewest = BUILDERS[name].fewest
    found = digest(build(name, p, max(m, fewest(p)), v) for p, m, v in SIZES)
    assert found == DIGESTS[name]


def test_messages_by_hand_give_what_they_gave():
    assert digest([Schedule.from_tokens(BY_HAND)]) == DIGESTS["by hand"]


@given(valid_schedules())
@settings(max_examples=100, deadline=None)
def test_what_is_timed_is_what_runs_without_its_receives(schedule):
    for written in (schedule, lower(schedule, replicas=2)):
        rows = lower(written, rendezvous=False).ranks
        assert timed_rows(written) == tuple(
            tuple(a for a in row if a.kind not in RECEIVES) for row in rows
        )

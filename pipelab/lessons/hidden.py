"""How much of the time of messages is hidden: the rank that sent one computes while it travels.

rank 0   0F0 │ 0F1 │           0SEND_F0 travels while rank 0 computes 0F1: hidden
└─SEND──┐
rank 1            │ 1F0 │      that rank 1 waits for it is another matter
"""

from pipelab.action import COMPUTE, SENDS
from pipelab.trace import Trace

__all__ = ["hidden_share"]


def hidden_share(trace: Trace) -> float:
    """The share of all message time, between 0 and 1, in which the rank that sent it computes.

    1.0 where there are no messages. A message lasts from the moment that it leaves until it
    arrives, which is known of predicted and of paced traces.

    >>> from pipelab.schedules import one_f_one_b
    >>> from pipelab.simulator import Cost, simulate
    >>> hidden_share(simulate(one_f_one_b(4, 8), Cost(latency=0.25)))
    0.5
    """
    computing: dict[int, list[tuple[float, float]]] = {rank: [] for rank in range(trace.num_ranks)}
    for e in trace.events:
        if e.kind in COMPUTE:
            computing[e.rank].append((e.start, e.end))
    total = hidden = 0.0
    for e in trace.events:
        if e.kind in SENDS:
            total += e.end - e.start
            spans = computing[e.rank]
            hidden += sum(max(0.0, min(end, e.end) - max(start, e.start)) for start, end in spans)
    return hidden / total if total else 1.0

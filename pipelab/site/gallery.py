"""The gallery: runs to play, each with two sentences and the lines that made it.

recorded   on real ranks, by ``python -m tests.site.record NAME``; shipped in
           notebooks/site/recordings, a trace or the text of an error
predicted  jobs of published papers, simulated when the site is built
"""

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from pipelab.site.playable import playable
from pipelab.trace import Trace

# What each line of a recorded entry builds on; shown once, and run as it stands.
PREAMBLE = """\
from functools import partial

import torch
from torch import nn

from pipelab.engine import Pipeline
from pipelab.schedules import (
    dual_pipe_v, gpipe, interleaved, one_f_one_b, sequential, zero_bubble_h1, zero_bubble_v
)
from pipelab.simulator import Cost
from pipelab.trace import Trace

WHOLE = Cost(0.020, 0.020, 0.020, latency=0.001)  # seconds of F, I, W; of a message
HALF = Cost(0.010, 0.010, 0.010, latency=0.001)  # of a stage that is half a rank's work


def record(schedule, pace=WHOLE, steps=1, **options):
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(256, 256) for _ in range(schedule.num_stages)))
    rows = 64 * schedule.num_microbatches
    batches = [(torch.randn(rows, 256), torch.randn(rows, 256)) for _ in range(steps + 1)]
    sgd = partial(torch.optim.SGD, lr=0.1)
    with Pipeline(
        model, schedule, loss=nn.functional.mse_loss, optimizer=sgd, pace=pace, **options
    ) as pipeline:
        pipeline.step(*batches[0])  # the first step only warms up
        results = pipeline.train(batches[1:], in_flight=steps)
        return Trace.joined([result.trace for result in results])
"""


class Entry(NamedTuple):
    """A run of the gallery.

    Attributes:
        name: of its recording.
        title: its heading.
        words: two sentences, in Markdown.
        code: ends with the name ``trace``, or fails as it should.
        show: what is drawn beside the boxes, as in ``Timeline``.
    """

    name: str
    title: str
    words: str
    code: str
    show: tuple[str, ...] = ()


RECORDED = (
    Entry(
        "gpipe",
        "GPipe and its memory",
        "All forwards come first, so each rank holds the activations of all eight microbatches "
        "before the first backward lets one go. See the memory below the boxes grow, and the "
        "bubble at both ends: 3/11 of the step.",
        "trace = record(gpipe(4, 8))",
        ("memory",),
    ),
    Entry(
        "1f1b",
        "1F1B and its memory",
        "The same bubble as GPipe, in another order: after its warmup each rank does one forward, "
        "then one backward. So rank 0 holds four microbatches at most, and the last rank one.",
        "trace = record(one_f_one_b(4, 8))",
        ("memory",),
    ),
    Entry(
        "interleaved",
        "Interleaved 1F1B",
        "Each rank has two stages of half the size, so the pipeline fills in half the time and the "
        "bubble shrinks. The price is twice as many messages, and more activations held.",
        "trace = record(interleaved(4, 8, stages_per_rank=2), HALF)",
        ("memory",),
    ),
    Entry(
        "zero-bubble-v",
        "ZB-V, three steps in flight",
        "The backward is cut in two: I, which the rank before waits for, and W, which can fill any "
        "gap. With three steps in flight a rank begins the next step while others still end this "
        "one, so only the first start and the last end are idle.",
        "trace = record(zero_bubble_v(4, 8), HALF, steps=3)",
    ),
    Entry(
        "dual-pipe-v",
        "DualPipeV",
        "A forward of one microbatch and a backward of another run as one action, in which one's "
        "messages can pass while the other computes. Both ends of the model are on rank 0.",
        "trace = record(dual_pipe_v(4, 8), HALF)",
    ),
    Entry(
        "straggler",
        "A straggler",
        "Rank 2 needs 30 ms where the others need 20, and everybody runs at its speed: the other "
        "ranks wait even in the steady state. Choose an idle piece to read whom it waits for.",
        "slow = [0.020, 0.020, 0.030, 0.020]\n"
        "trace = record(one_f_one_b(4, 8), Cost(slow, slow, slow, latency=0.001))",
    ),
    Entry(
        "unpaced",
        "As fast as the machine goes",
        "No pace: four processes of one small machine and a tiny model. Actions take well under a "
        "millisecond here, so messages and the start of each action cost as much as the computing.",
        "trace = record(one_f_one_b(4, 8), pace=None)",
        ("messages",),
    ),
    Entry(
        "out-of-memory",
        "Out of memory",
        "GPipe holds all sixteen microbatches, more than each rank may hold here. The error names "
        "the rank and the action; 1F1B runs within the same limit.",
        "trace = record(gpipe(4, 16), memory_budget=2_000_000)  # bytes",
    ),
)

HANG = Entry(
    "hang",
    "A hang, and who waits for whom",
    "Rank 0 wants its backward before it sends the forward that the others need, so nobody can "
    "continue. pipelab refuses such a schedule before it starts a process, and names the ring.",
    """\
from pipelab.errors import DeadlockError
from pipelab.plots import plot_waits
from pipelab.schedules import Schedule, validate

rows = ["0F0 0B0 0F1 0B1", "1F0 1F1 1B0 1B1"]
try:
    validate(Schedule.from_tokens(row.split() for row in rows))
except DeadlockError as error:
    trace = plot_waits(error)
""",
)

PREDICTED = (
    Entry(
        "megatron",
        "Megatron-LM, 145.6 billion parameters",
        "Narayanan and others (2021, arXiv 2104.04473, table 1): 8 pipeline ranks, 1,536 GPUs, "
        "batches of 2,304 sequences; at one sequence a microbatch that is 96 microbatches in each "
        "of 24 replicas. Predicted from these sizes, with B = 2 F and free messages: the paper "
        "gives no times of actions.",
        """\
from pipelab.schedules import one_f_one_b
from pipelab.simulator import Cost, simulate

trace = simulate(one_f_one_b(8, 96), Cost(1, 1, 1))
""",
    ),
    Entry(
        "llama-3",
        "Llama 3, 405 billion parameters",
        "The Llama team (2024, arXiv 2407.21783, table 4): 16 pipeline ranks, and on 16,384 GPUs "
        "16 sequences in each of 128 replicas. So few microbatches make a large bubble, which is "
        "why the paper interleaves stages; it does not say how many, two a rank here, with B = 2 F "
        "and free messages.",
        """\
from pipelab.schedules import interleaved
from pipelab.simulator import Cost, simulate

trace = simulate(interleaved(16, 16, stages_per_rank=2), Cost(1, 1, 1))
""",
    ),
    Entry(
        "heavy-last-stage",
        "A job on 8 GPUs, whose last stage is heavy",
        "ByteDance published what the actions of its jobs took (Lin and others 2025, arXiv "
        "2505.05713, file ST of the repository StragglerAnalysis): a forward takes 140 ms on the "
        "last of four ranks, 68 ms on the others. So 51 % of the ranks' time is bubble; equal "
        "stages would have 43 %.",
        """\
from pipelab.lessons.jobs import JOBS
from pipelab.schedules import one_f_one_b
from pipelab.simulator import simulate

job = JOBS["8 GPUs"]
trace = simulate(one_f_one_b(job.ranks, job.microbatches), job.cost())
""",
    ),
    Entry(
        "slow-rank",
        "A job on 64 GPUs, with a slow rank",
        "From the same source (file AR): in one of four replicas, rank 0 takes 546 ms for a "
        "forward, all other ranks about 217. With 32 microbatches its bubble is 43 %, that of the "
        "replicas beside it 11 %, and all of them wait for it at the end of each step.",
        """\
from pipelab.lessons.jobs import JOBS
from pipelab.schedules import one_f_one_b
from pipelab.simulator import simulate

job = JOBS["64 GPUs"]
trace = simulate(one_f_one_b(job.ranks, job.microbatches), job.cost(replica=0))
""",
    ),
)

_ABOUT = (
    "Press play, drag through the time, or choose an action to follow its microbatch. Idle pieces "
    "say why they are idle."
)
_LINES = (
    "Four processes on one machine, each action paced to a set time where nothing else is said. "
    "Every line below begins with these definitions:"
)
_PREDICTED = (
    "Nothing ran here: the sizes are those of published jobs, the times too where somebody "
    "published them, else units; the timeline is what the simulator makes of them."
)


def write_gallery(path: Path, recordings: Path, links: str = "") -> None:
    """Write the gallery's page; entries without a recording are left out.

    ``links``: HTML that leads on from here, below the first words.
    """
    parts = [
        "# Gallery",
        _ABOUT,
        *filter(None, [links]),
        "## Recorded on real ranks",
        _LINES,
        _definitions(),
    ]
    for entry in RECORDED:
        parts += _section(entry, _recorded(entry, recordings))
    parts += _section(HANG, run(HANG)._repr_html_().replace("\n", " "))
    parts += ["## Predicted, from published figures", _PREDICTED]
    for entry in PREDICTED:
        parts += _section(entry, playable(run(entry), show=list(entry.show)))
    path.write_text("\n\n".join(parts) + "\n", "utf-8")


def run(entry: Entry, preamble: str = "") -> Any:
    """What an entry's code names ``trace``."""
    names: dict[str, Any] = {}
    exec(preamble + entry.code, names)
    return names["trace"]


def _section(entry: Entry, shown: str) -> Iterator[str]:
    """Heading, words, code and picture; nothing without a picture."""
    if shown:
        yield from (f"### {entry.title}", entry.words, f"```python\n{entry.code.strip()}\n```")
        yield shown


def _recorded(entry: Entry, recordings: Path) -> str:
    """The recording as HTML: a timeline, the text of an error, or "" if there is none."""
    trace, text = recordings / f"{entry.name}.json.gz", recordings / f"{entry.name}.txt"
    if trace.is_file():
        return playable(Trace.load(trace), show=list(entry.show) or None)
    if text.is_file():
        lines = escape(text.read_text("utf-8").strip()).replace("\n", "<br>")
        return f'<p class="pipelab-error">{lines}</p>'
    return ""


def _definitions() -> str:
    code = f"```python\n{PREAMBLE}```"
    return f"<details><summary>The definitions</summary>\n\n{code}\n\n</details>"

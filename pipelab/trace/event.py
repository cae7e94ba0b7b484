"""The parts of a trace: what one rank did and when, what it holds, and how it was recorded.

Recorded means recorded: an event is the start and the end of something that a rank did. Waiting
for a message is a separate event (``WAIT``), never hidden inside F or B.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from pipelab.action import Kind

# of ranks, stages and microbatches: a damaged file that names a larger one must not eat the memory
LARGEST = 100_000


class Event(NamedTuple):
    """One thing that one rank did, with start and end in seconds since the step began.

    ``stage`` and ``microbatch`` of a WAIT are those of the action that waits. A SEND ends when the
    message arrives where that is known (predicted or paced), else when it has been started.

    ``bytes``: for F the activations that it keeps for its backward; for B, I and W the gradients
    first made in it; for SEND the message; for RECV the buffer that it opens; for STEP the
    optimizer state first made in it. ``peer``: the rank at the other end of a SEND, RECV or WAIT.
    """

    rank: int
    kind: Kind
    stage: int
    microbatch: int | None
    start: float
    end: float
    bytes: int = 0
    peer: int | None = None


class Memory(NamedTuple):
    """Bytes that one rank holds after the step: its stages, and what training adds to them."""

    parameters: int = 0
    gradients: int = 0
    optimizer: int = 0


@dataclass(frozen=True)
class Setting:
    """What the trace was made with; the source line of every picture is written from it.

    ``ranks`` counts all processes: those of one pipeline times ``replicas``. ``microbatches`` are
    those of one step; in a trace of several ``steps`` the next step's are numbered on.
    ``clock_error``: by how many seconds the clocks of several machines may differ; 0.0 if all ranks
    shared a clock. ``slices``: of each microbatch's sequence; an event's ``microbatch`` counts all.

    Of a recording from elsewhere: ``origin`` says what wrote it and whose time it has
    (``"ndtimeline, device time"``), ``step`` and ``replica`` which part of it this is, ``notes``
    what the files did not hold.

    Of a paced run: ``timed`` actions had a set time, ``late`` of them took longer; all together
    lost so many seconds to the machine's other work. ``Trace.disturbance`` puts that in words.

    ``story``: a name in story.py; the trace is shown in its words.
    """

    schedule: str = "custom"
    ranks: int = 1
    microbatches: int = 1
    device: str = "cpu"
    backend: str = "gloo"
    paced: str = ""  # such as "F 10 ms, B 20 ms"; empty when nothing was padded
    cpus: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    replicas: int = 1
    clock_error: float = 0.0
    steps: int = 1
    slices: int = 1
    origin: str = ""
    step: int = 0
    replica: int = 0
    notes: list[str] = field(default_factory=list)
    timed: int = 0
    late: int = 0
    lost: float = 0.0
    story: str = ""

    @property
    def pieces(self) -> int:
        """How many numbers the microbatches of one step, or all their slices, take."""
        return self.microbatches * self.slices


class Operator(NamedTuple):
    """One call of one operator of PyTorch, or one kernel of a GPU, as its profiler saw it.

    event      F 3 │aten::layer_norm│aten::linear ───────────│aten::gelu│ ...
                                    │aten::addmm ──────────│                 operators nest

    ``start`` and ``end``: seconds, on the clock of the trace's events.

    ``device``: ``"cpu"``, ``"cuda"``, or ``"under way"`` for what nobody computes, a message of
    gloo's. ``thread``: of its rank, as the profiler counts them; for a GPU, the stream.
    """

    rank: int
    name: str
    device: str
    thread: int
    start: float
    end: float

    @property
    def row(self) -> str:
        """The name of its row in Perfetto."""
        names = {"cpu": f"operators {self.thread}", "under way": "messages under way"}
        return names.get(self.device, f"GPU stream {self.thread}")

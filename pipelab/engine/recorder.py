"""Record what a rank does: start and end of each action, on a clock that all ranks share.

``time.monotonic`` counts from the machine's start, so times of ranks on one machine compare.
Between machines, ``clocks`` measures what to add.
"""

import time

from pipelab.action import Action, Kind
from pipelab.engine.progress import Progress
from pipelab.trace import Event


class Recorder:
    """The events of one step, as they happen.

    ``with recorder.record(action):`` is one event. What an action finds out about itself on its
    way, its bytes and its peer, it tells with ``note``.
    """

    def __init__(self, rank: int, progress: Progress):
        self.rank = rank
        self.progress = progress
        self.events: list[Event] = []
        self.action: Action | None = None  # the one under way, for error messages
        self.start = 0.0
        self.bytes = 0
        self.peer: int | None = None
        self.until = 0.0

    def record(self, action: Action) -> "Recorder":
        """Time one action with this as a context manager."""
        self.action, self.bytes, self.peer, self.until = action, 0, None, 0.0
        self.progress.write(self.rank, action)
        return self

    def note(self, bytes: int = 0, peer: int | None = None, until: float = 0.0) -> None:
        """What the action under way found out: bytes kept or sent, and the other rank.

        ``until``: what it started, a paced message, goes on in the background until then.
        """
        self.bytes, self.peer, self.until = bytes, peer, until

    def end_at(self, place: int, end: float) -> None:
        """What the event at ``place`` started in the background ended then."""
        self.events[place] = self.events[place]._replace(end=end)

    def __enter__(self) -> None:
        self.start = time.monotonic()

    def __exit__(self, *error: object) -> None:
        end = max(time.monotonic(), self.until)
        if self.action is not None and error[0] is None:
            stage, kind, microbatch = self.action
            self.events.append(
                Event(self.rank, kind, stage, microbatch, self.start, end, self.bytes, self.peer)
            )
            self.action = None

    def take(self) -> list[Event]:
        """The events so far; the next step starts with none."""
        events, self.events = self.events, []
        return events


def waiting_for(action: Action) -> Action:
    """The event of waiting for the message that a computing action needs."""
    return action._replace(kind=Kind.WAIT)

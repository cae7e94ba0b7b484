"""The pipeline of the last run, kept for the next one.

Four new ranks cost more of the processor than two steps. A learner who moves a slider asks for the
same ranks again a moment later, so they stay for some seconds.
"""

import threading
from collections.abc import Hashable
from typing import NamedTuple

from pipelab.engine import Pipeline

SECONDS = 20.0  # that ranks wait for another run


class _Waiting(NamedTuple):
    pipeline: Pipeline
    ranks: Hashable
    end: threading.Timer


class Kept:
    """At most one pipeline that waits for a run, of all widgets of a kernel."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: _Waiting | None = None

    def take(self, ranks: Hashable) -> Pipeline | None:
        """The pipeline that waits, if its ranks are these; another one is closed."""
        waiting = self._taken()
        if waiting is None:
            return None
        if waiting.ranks != ranks:
            waiting.pipeline.close()
            return None
        return waiting.pipeline

    def keep(self, pipeline: Pipeline, ranks: Hashable) -> None:
        """Let a pipeline wait for the next run with such ranks, for ``SECONDS``."""
        end = threading.Timer(SECONDS, lambda: self._end(pipeline))
        end.daemon = True
        with self._guard:
            self._waiting = _Waiting(pipeline, ranks, end)
        end.start()

    def close(self) -> None:
        """End the processes that wait."""
        if waiting := self._taken():
            waiting.pipeline.close()

    def _end(self, pipeline: Pipeline) -> None:
        with self._guard:
            if self._waiting is None or self._waiting.pipeline is not pipeline:
                return  # a run has taken it just now
            self._waiting = None
        pipeline.close()

    def _taken(self) -> _Waiting | None:
        with self._guard:
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.end.cancel()
        return waiting


kept = Kept()

"""Whether a KeyboardInterrupt is the learner's Stop: an answer's own code can raise one, too."""

import signal
import threading
from types import FrameType


class StopNoted:
    """``with StopNoted() as stop:`` whether Ctrl-C, or the notebook's Stop, was pressed within.

    Its KeyboardInterrupt is raised as ever. Outside the main thread there is none.
    """

    def __enter__(self) -> "StopNoted":
        self.was_pressed = False
        self._before = None
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):  # not ignored, and Python's own to put back
                self._before = before
                signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.was_pressed = True
        if self._before is not None:
            self._before(number, frame)

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

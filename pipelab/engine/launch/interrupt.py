"""Delay a Ctrl-C, or the notebook's Stop, while something is half done."""

import signal
import threading
from types import FrameType


class Uninterrupted:
    """``with Uninterrupted():`` a KeyboardInterrupt within is raised at the end of the block.

    For short blocks only. A class, since a generator's ``with`` can itself be interrupted between
    its first half and the block. Outside the main thread, where none is raised, it does nothing.
    """

    def __enter__(self) -> None:
        self._held: FrameType | None = None
        self._was_pressed = False
        self._before = None
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):  # not ignored, and Python's own to put back
                signal.signal(signal.SIGINT, self._hold)
                self._before = before

    def _hold(self, number: int, frame: FrameType | None) -> None:
        self._was_pressed = True
        self._held = frame

    def __exit__(self, *error: object) -> None:
        if self._before is None:
            return
        signal.signal(signal.SIGINT, self._before)
        if self._was_pressed:
            self._before(signal.SIGINT, self._held)

"""Private folders of processes that use pipelab: their names, and those that the dead have left.

A folder is locked by the process that made it. The system opens the lock when that process ends,
whatever ends it, and it holds between containers, which number their processes differently.
"""

import fcntl
import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from pipelab.engine.launch.refused import refused

_NAME = re.compile(r"pipelab-(\d+)-")


class PrivateFolder:
    """A folder in the temporary folder that only its owner may enter (mode 0700).

    Raises:
        LaunchError: there is no room for it, or too many files are open.
    """

    def __init__(self) -> None:
        try:
            self.path = Path(tempfile.mkdtemp(prefix=f"pipelab-{os.getpid()}-"))
            self._lock: int | None = self._open()
        except OSError as error:
            raise refused("the ranks did not start", error) from None
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDONLY)
        except OSError:
            self.path.rmdir()  # which opens no file: there may be too many
            raise

    def remove(self) -> None:
        """Remove it. May be called twice."""
        shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        """Open its lock. Before ``remove``, which needs two files itself. May be called twice."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def remove_stale() -> None:
    """Remove the folders of processes that were killed; of those that live, all stay."""
    for folder, owner in _folders():
        if not _exists(owner):
            _remove_unlocked(folder)


def remove_of_dead(pid: int) -> None:
    """Remove the folders of a process that ends just now: its lock opens within milliseconds."""
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        removed = [_remove_unlocked(folder) for folder, owner in _folders() if owner == pid]
        if all(removed):
            return
        time.sleep(0.01)


def _folders() -> list[tuple[Path, int]]:
    """All private folders here, each with its owner's number."""
    folders = Path(tempfile.gettempdir()).glob("pipelab-*")
    return [(folder, int(name[1])) for folder in folders if (name := _NAME.match(folder.name))]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _remove_unlocked(folder: Path) -> bool:
    """Whether it is gone. One that belongs to another user, or is locked, stays.

    So does one in which a rank that was just forked has opened its log meanwhile: try again.
    """
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return False
    finally:
        os.close(lock)
    return not folder.exists()

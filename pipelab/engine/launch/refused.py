"""What the system refuses while processes are started, in words."""

import errno
import resource
import tempfile

from pipelab.errors import LaunchError

_FILES_PER_RANK = 4


def refused(what: str, error: OSError) -> LaunchError:
    """The error to raise: what did not start, why, and what to do."""
    return LaunchError(f"{what} ({error}):\n{_remedy(error)}")


def _remedy(error: OSError) -> str:
    match error.errno:
        case errno.EMFILE:
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            return (
                f"this process may open {limit} files, and a pipeline takes {_FILES_PER_RANK} for "
                f"each rank.\nClose other pipelines and files, or raise it: ulimit -n {2 * limit}"
            )
        case errno.ENFILE | errno.EAGAIN | errno.ENOMEM:
            return (
                "the system gives no further files, processes or memory. End other programs, or\n"
                "take fewer ranks."
            )
    return f"is there room, and permission to write, in {tempfile.gettempdir()}?"

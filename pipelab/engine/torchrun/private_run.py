"""Run a script under torchrun on this machine alone, so that no stranger can reach its ranks.

torchrun's own store listens on all interfaces, whether by --standalone or with 127.0.0.1 as its
endpoint. Here its rendezvous is a file in a private folder (store_type=file, no shared TCP store),
and the script's ranks meet through another: ``init_method="file://FOLDER/meeting-point"``.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelab.errors import LaunchError

__all__ = ["run_privately"]

_FORKED = Path(__file__).with_name("forked_ranks.py")
_LAST = 2000  # characters of what a failed run wrote


def run_privately(
    script: Path,
    num_ranks: int,
    folder: Path,
    arguments: Sequence[str] = (),
    timeout: float = 120.0,
    loaded: Sequence[str] = (),
) -> None:
    """Run ``script FOLDER arguments...`` on so many ranks, and return when all have ended.

    Each rank's stdin is a pipe of this process: a rank that reads it ends with this process.

    Args:
        folder: private; torchrun's rendezvous and log are in it.
        timeout: seconds after which all are stopped.
        loaded: modules. With them ranks are forked from torchrun, which loads these once; such
            ranks have no stdin, and end with this process whatever they do.

    Raises:
        LaunchError: it did not end in time, or not with success; with its last lines.
    """
    options = ("--run-path", "--start-method=fork") if loaded else ()
    torchrun = (str(_FORKED), ",".join(loaded)) if loaded else ("-m", "torch.distributed.run")
    command = [
        *(sys.executable, *torchrun, *options, "--nnodes=1"),
        *(f"--nproc-per-node={num_ranks}", "--local-addr=127.0.0.1", "--rdzv-backend=c10d"),
        *("--rdzv-conf=store_type=file", f"--rdzv-endpoint={folder / 'rendezvous'}"),
        f"--log-dir={folder / 'errors'}",  # else a folder that stays after a failure
        *(str(script), str(folder), *arguments),
    ]
    log = folder / "log"
    code = _run(command, log, timeout)
    if code != 0:
        words = log.read_text("utf-8", "replace")[-_LAST:]
        raise LaunchError(f"torchrun ended with code {code}; its last lines:\n{words}")


def _run(command: list[str], log: Path, timeout: float) -> int:
    env = {
        **os.environ,
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
        "OMP_NUM_THREADS": "1",  # torchrun would set it, with a warning
        "PYTHONSAFEPATH": "1",  # modules beside the script hide none of the library's
    }
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT, env=env
        )
    assert process.stdin is not None
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise LaunchError(f"torchrun had not finished after {timeout:g} s") from None
    finally:
        process.stdin.close()
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Stop torchrun, which stops its ranks; they also end when their stdin closes."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

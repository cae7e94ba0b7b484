"""Which machine this process runs on, and whether torchrun started it."""

import os
import socket
from contextlib import suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"


def under_torchrun() -> bool:
    """Whether torchrun made this process one of several ranks; not with PIPELAB_TORCHRUN=0."""
    named = "TORCHELASTIC_RUN_ID" in os.environ and "WORLD_SIZE" in os.environ
    return named and os.environ.get("PIPELAB_TORCHRUN") != "0"


def machine() -> str:
    """Equal for processes that share a clock and a loopback interface, different for others."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # Linux; elsewhere the name must do
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip())
        parts += [os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "time")]
    return " ".join(parts)


def address_towards(host: str) -> str:
    """The address of this machine from which it reaches another one; sends nothing."""
    family, *_, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def is_loopback(address: str) -> bool:
    """Whether other machines cannot reach this address.

    >>> is_loopback("127.0.1.1"), is_loopback("10.0.0.1")
    (True, False)
    """
    return address.startswith("127.") or address == "::1"

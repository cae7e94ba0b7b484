"""The processes that torchrun started: on which machines they are, and how to reach each other."""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

LOOPBACK = "127.0.0.1"


class Member(NamedTuple):
    """One rank's process, as the others know it."""

    pid: int
    machine: str
    address: str  # from which it reaches rank 0's machine


def this_process() -> Member:
    """What this process gives to the others."""
    return Member(os.getpid(), machine(), address_towards(os.environ["MASTER_ADDR"]))


def address_of(members: Sequence[Member], rank: int) -> str | None:
    """The address of this machine that the other ranks reach; None if the user has chosen one.

    Raises:
        OSError: the other machines cannot reach this one.
    """
    if os.environ.get("GLOO_SOCKET_IFNAME"):
        return None
    if len({member.machine for member in members}) == 1:
        return LOOPBACK
    own = members[rank]
    if is_loopback(own.address):  # rank 0's machine under its own name: look outwards instead
        outside = [m.address for m in members if m.machine != own.machine]
        own = own._replace(address=address_towards(outside[0]))
    if is_loopback(own.address):
        raise OSError(
            f"the machines connect through {os.environ['MASTER_ADDR']}, which is loopback here: "
            f"give torchrun an address that all reach, or set GLOO_SOCKET_IFNAME"
        )
    return own.address


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

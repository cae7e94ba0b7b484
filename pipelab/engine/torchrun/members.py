"""The processes that torchrun started: on which machines they are, and how to reach each other."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from pipelab.engine.protocol.host import LOOPBACK, address_towards, is_loopback, machine


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

"""Which of a process's connections lead to other ranks, and are closed when this one fails."""

import socket

from pipelab.engine.torchrun.sockets import Sockets, listening


def listener(address=("127.0.0.1", 0)):
    made = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    made.bind(address)
    made.listen()
    return made


def connected(to):
    """Both ends of a new connection."""
    ours = socket.socket(to.family)
    ours.connect(to.getsockname())
    theirs, _ = to.accept()
    return ours, theirs


def works(ours, theirs):
    try:
        ours.sendall(b"?")
        return theirs.recv(1) == b"?"
    except OSError:
        return False


def test_only_connections_with_an_address_of_gloo_s_are_closed(tmp_path):
    """What other threads of the script opened, while the ranks met, was closed with them."""
    scripts = listener()
    with listening() as found:
        gloos = listener()
    assert found == [gloos.getsockname()]
    elsewhere, unix = listener(), listener(str(tmp_path / "socket"))  # by other threads, then
    own, other = connected(gloos), connected(elsewhere)
    more, named = connected(scripts), connected(unix)
    pair, unconnected = socket.socketpair(), socket.socket()
    sockets = Sockets()
    sockets.collect(found)
    assert works(*own)
    sockets.close()
    sockets.close()
    assert not works(*own)
    for ends in (other, more, named, pair):
        assert works(*ends)
    late = connected(gloos)
    assert works(*late), "gloo aborts if it can no longer listen"
    ends = (*late, *own, *other, *more, *named, *pair)
    for one in (scripts, gloos, elsewhere, unix, *ends, unconnected):
        one.close()


def test_a_forked_child_closes_its_handles_and_not_the_connection():
    gloos = listener()
    own = connected(gloos)
    sockets = Sockets()
    sockets.collect([gloos.getsockname()])
    sockets.forget()
    assert works(*own)
    for one in (gloos, *own):
        one.close()

"""JupyterLab's server on a socket that listens already: nobody else can take its port meanwhile."""

import socket

from jupyter_server.serverapp import ServerApp


def serving(held: socket.socket) -> type[ServerApp]:
    """A server that answers on this socket."""

    class HeldPortServer(ServerApp):
        def _find_http_port(self) -> None:
            """Nothing to find; the usual search would try to bind the port a second time."""

        def _bind_http_server_tcp(self) -> bool:
            self.http_server.add_sockets([held])
            return True

    return HeldPortServer

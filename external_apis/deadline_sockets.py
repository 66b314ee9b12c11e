"""Sockets in which every single wait counts against one deadline.

A socket's own time-out bounds one wait: a trickle of bytes would outlast it. Both clients use these, the server's and
the one that needs no server.
"""

from __future__ import annotations

import socket
import ssl
from time import monotonic
from typing import Any

__all__ = ["DeadlineSocket", "DeadlineTLSSocket", "bound", "open_socket"]


class DeadlineSocket(socket.socket):
    """``deadline`` is on the clock of `time.monotonic`; past it every wait raises `TimeoutError`."""

    deadline: float | None = None

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        bound(self)
        return super().recv_into(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        bound(self)
        super().sendall(*args, **kwargs)


class DeadlineTLSSocket(ssl.SSLSocket):
    """The same under TLS."""

    deadline: float | None = None

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        bound(self)
        return super().recv_into(*args, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> int:  # a TLS socket's sendall loops over this
        bound(self)
        return super().send(*args, **kwargs)


def bound(sock: DeadlineSocket | DeadlineTLSSocket) -> None:
    """Give the next wait what is left of the deadline. Raises `TimeoutError` where nothing is."""
    if sock.deadline is not None:
        remaining = sock.deadline - monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        sock.settimeout(remaining)


def open_socket(candidates: list[Any], timeout: float, options: Any) -> socket.socket:
    """Connect to the first of `socket.getaddrinfo`'s results that answers, each within its share of what time is left.

    ``timeout`` is in seconds, ``options`` are for ``setsockopt``. Raises the last `OSError`.
    """
    deadline = monotonic() + timeout
    failure: OSError = OSError("no address")
    for index, (family, kind, protocol, _, address) in enumerate(candidates):
        sock = DeadlineSocket(family, kind, protocol)
        try:
            for option in options or ():
                sock.setsockopt(*option)
            sock.settimeout(max(deadline - monotonic(), 0.001) / (len(candidates) - index))
            sock.connect(address)
        except OSError as error:
            failure = error
            sock.close()
        else:
            sock.settimeout(max(deadline - monotonic(), 0.001))
            sock.deadline = deadline
            return sock
    raise failure

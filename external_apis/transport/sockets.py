"""urllib3's connections on sockets that the egress guard permits and that keep a deadline."""

from __future__ import annotations

import select
import socket
import ssl
from time import monotonic
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection, HTTPSConnection

from external_apis.deadline_sockets import bound, open_socket
from external_apis.egress import look_up
from external_apis.transport.responses import Response

if TYPE_CHECKING:
    from external_apis.egress import Policy

__all__ = ["GuardedConnection", "PlainConnection", "TLSConnection"]

_STUCK_SECONDS = 1.0


class _Guard:
    """What makes a urllib3 connection a guarded one; ``policy`` is None only for the connection to the proxy."""

    policy: Policy | None = None
    response_class: Any = Response

    def _new_conn(self: Any) -> socket.socket:
        host, port, until = self._dns_host, self.port, monotonic() + self.timeout
        if self.policy is None:
            candidates = look_up(host, port, self.timeout)
        else:
            candidates = self.policy.resolve(host, port, self.timeout)
        return open_socket(candidates, max(until - monotonic(), 0.001), self.socket_options)

    def keep_deadline(self: Any, deadline: float) -> None:
        self.sock.deadline = deadline

    def push(self: Any, piece: bytes) -> bool:
        """Send a piece of a body; False when the other side takes no more of it, and has answered.

        One that answers and goes on reading gets all of it. Under TLS nothing tells an answer from what the layer
        itself has to say, so there it is only seen when everything is sent.
        """
        sock = self.sock
        if isinstance(sock, ssl.SSLSocket):
            sock.sendall(piece)
            return True
        rest = memoryview(piece)
        poll = select.poll()
        while rest:
            bound(sock)
            poll.register(sock, select.POLLOUT)
            if poll.poll(min(sock.gettimeout(), _STUCK_SECONDS) * 1000):
                rest = rest[sock.send(rest) :]
                continue
            poll.register(sock, select.POLLIN)
            if poll.poll(0):
                return False
        return True

    @property
    def has_unread(self: Any) -> bool:
        """Tell whether the TLS layer holds what nobody has asked for; what is in the socket `is_connected` sees."""
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0


class PlainConnection(_Guard, HTTPConnection):
    pass


class TLSConnection(_Guard, HTTPSConnection):
    pass


GuardedConnection = PlainConnection | TLSConnection

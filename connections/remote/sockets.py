"""Connections to the server in which every single wait counts against one deadline, kept for the next request."""

from __future__ import annotations

import os
import socket
import ssl
from collections import deque
from time import monotonic
from typing import Any

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import create_urllib3_context

from connections.wire.arguments import refuse
from external_apis.deadline_sockets import DeadlineTLSSocket, open_socket

__all__ = ["Connection", "Pool", "tls_context"]

Connection = HTTPConnection | HTTPSConnection

_MOST_IDLE, _IDLE_SECONDS = 32, 60.0


class Pool:
    """The idle connections to one origin; used by all threads of one process."""

    def __init__(self, host: str, port: int | None, tls: ssl.SSLContext | None) -> None:
        """Take what `tls_context` gives, or None for plain HTTP."""
        self._host, self._port, self._tls = host, port, tls
        self._idle: deque[tuple[float, Connection]] = deque()

    def borrow(self, connect_seconds: float, deadline: float) -> Connection:
        """Return a connection whose waits end by ``deadline``. Raises `OSError` and urllib3's errors: nothing is sent.

        ``deadline`` is on the clock of `time.monotonic`. Resolving the name is the system's, and not bounded.
        """
        while self._idle:
            try:
                since, connection = self._idle.pop()
            except IndexError:  # another thread took the last one
                break
            if monotonic() - since < _IDLE_SECONDS and connection.is_connected:
                _keep_deadline(connection, deadline)
                return connection
            connection.close()
        if self._tls is None:
            connection = _PlainConnection(self._host, self._port, timeout=connect_seconds)
        else:
            connection = _TLSConnection(self._host, self._port, timeout=connect_seconds, ssl_context=self._tls)
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        _keep_deadline(connection, deadline)
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose answer has been read to its end."""
        if connection.sock is not None and len(self._idle) < _MOST_IDLE:
            self._idle.append((monotonic(), connection))
        else:
            connection.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop()[1].close()


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a context that checks the server's certificate; raises `InvalidInput` for a file without certificates."""
    context = create_urllib3_context()
    path = ca_file or DEFAULT_CA_BUNDLE_PATH
    is_good = True
    try:
        context.load_verify_locations(**{"capath" if os.path.isdir(path) else "cafile": path})  # noqa: PTH112
    except OSError:  # ssl.SSLError is one
        is_good = False
    if not is_good:
        raise refuse("ca_file", "names a file that holds no readable PEM certificates (EAM_CA_FILE)")
    context.sslsocket_class = DeadlineTLSSocket
    return context


def _keep_deadline(connection: Connection, deadline: float) -> None:
    """Have every wait of a connection that is open end by ``deadline``."""
    sock: Any = connection.sock
    sock.deadline = deadline


class _Bounded:
    """What makes a urllib3 connection open such sockets."""

    def _new_conn(self: Any) -> socket.socket:
        found = socket.getaddrinfo(self._dns_host, self.port, 0, socket.SOCK_STREAM)
        return open_socket(found, self.timeout, self.socket_options)


class _PlainConnection(_Bounded, HTTPConnection):
    pass


class _TLSConnection(_Bounded, HTTPSConnection):
    pass

"""One client's socket: reads under a deadline, sends in one piece, and pauses that notice a client that left."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

SEND_SECONDS = 60.0
RECEIVE_BYTES = 65_536


class ClientGone(Exception):
    """The client closed the connection."""


class TooSlow(ClientGone):
    """The client took longer than it may."""


class TooMuch(Exception):
    """The client sent more than the caller of ``read_until`` accepts."""


class Wire:
    """``address`` is the client's, for the log."""

    def __init__(self, connection: socket.socket, address: str) -> None:
        self._socket = connection
        self._buffer = bytearray()
        self.address = address

    def wait(self, seconds: float) -> int:
        """Wait for the next request's first byte and answer with it, left in place."""
        if not self._buffer:
            self._receive(time.monotonic() + seconds)
        return self._buffer[0]

    def read_until(self, mark: bytes, limit: int, deadline: float) -> bytes:
        """Read to the mark (which is dropped) and raise ``TooMuch`` when it is not within ``limit`` bytes."""
        searched = 0
        while (end := self._buffer.find(mark, searched)) < 0:
            if len(self._buffer) > limit:
                raise TooMuch
            searched = max(0, len(self._buffer) - len(mark) + 1)
            self._receive(deadline)
        if end > limit:
            raise TooMuch
        found = bytes(self._buffer[:end])
        del self._buffer[: end + len(mark)]
        return found

    def read_exactly(self, count: int, deadline: float) -> bytes:
        while len(self._buffer) < count:
            self._receive(deadline)
        found = bytes(self._buffer[:count])
        del self._buffer[:count]
        return found

    def send(self, data: bytes) -> None:
        self._socket.settimeout(SEND_SECONDS)
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise ClientGone from error

    def pause(self, seconds: float) -> None:
        """Do nothing for a while; raises ``ClientGone`` as soon as the client closes."""
        deadline = time.monotonic() + seconds
        self._socket.settimeout(max(seconds, 0.001))
        try:
            if not self._socket.recv(1, socket.MSG_PEEK):
                raise ClientGone
        except TimeoutError:
            return
        except OSError as error:
            raise ClientGone from error
        # A pipelined request is waiting, so the socket cannot tell any more when the client leaves.
        time.sleep(max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """Say goodbye, and read a little of what still comes, lest a reset overtake the answer."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + 0.5
            for _ in range(64):
                self._socket.settimeout(max(0.001, deadline - time.monotonic()))
                if not self._socket.recv(RECEIVE_BYTES):
                    break
        self._socket.close()

    def reset(self) -> None:
        """Close with RST: the client sees 'connection reset by peer'."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _receive(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TooSlow
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except TimeoutError as error:
            raise TooSlow from error
        except OSError as error:
            raise ClientGone from error
        if not data:
            raise ClientGone
        self._buffer += data

"""The listening socket and a thread for each client: HTTP/1.1 with keep-alive, every answer in one send."""

from __future__ import annotations

import contextlib
import itertools
import socket
import sys
import threading
import time
from collections.abc import Callable
from email.utils import formatdate

from connections.sandbox.answers import Answer, Raw, Refusal, Reply, Stream, answer_error, render_head
from connections.sandbox.request import Request, read_request
from connections.sandbox.wire import ClientGone, Wire

CLIENTS = 512
IDLE_SECONDS = 75.0

Application = Callable[[Request], Reply]


class Server:
    """Binds at once, so that ``port`` is known before anything is served; port 0 takes a free one.

    :raises OSError: when the address cannot be bound.
    """

    def __init__(
        self, host: str, port: int, application: Application, *, patience_seconds: float = 10.0, is_quiet: bool = True
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=CLIENTS)
        self._application = application
        self._patience_seconds = patience_seconds
        self._is_quiet = is_quiet
        self._slots = threading.BoundedSemaphore(CLIENTS)
        self._numbers = itertools.count(1)
        self.port: int = self._socket.getsockname()[1]

    def serve_forever(self) -> None:
        while True:
            try:
                connection, address = self._socket.accept()
            except OSError:
                # Out of file descriptors, or the client was gone before it was met: neither ends the service.
                time.sleep(0.05)
                continue
            self._admit(connection, str(address[0]))

    def _admit(self, connection: socket.socket, address: str) -> None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._slots.acquire(blocking=False):
            connection.close()
            return
        try:
            threading.Thread(target=self._serve_client, args=(Wire(connection, address),), daemon=True).start()
        except RuntimeError:
            # The system has no thread left for this client; the next one may be luckier.
            connection.close()
            self._slots.release()

    def _serve_client(self, wire: Wire) -> None:
        try:
            with contextlib.suppress(ClientGone):
                while self._serve_request(wire):
                    pass
        finally:
            wire.close()
            self._slots.release()

    def _serve_request(self, wire: Wire) -> bool:
        """Serve one request; True when the connection may carry another."""
        wire.wait(IDLE_SECONDS)
        started = time.monotonic()
        request = None
        try:
            request = read_request(wire, self._patience_seconds)
            reply = self._application(request)
        except Refusal as refusal:
            reply = answer_error(refusal)
        except ClientGone:
            raise
        except Exception as error:
            print(f"sandbox: {type(error).__name__} while answering", file=sys.stderr, flush=True)
            reply = answer_error(Refusal(500, "sandbox_error", "The sandbox itself failed; its log names the fault"))
        keeps_alive = request is not None and request.keeps_alive
        if not self._is_quiet and request is not None:
            self._log(wire, request, reply, started)
        if isinstance(reply, Raw):
            reply.play(wire)
            return False
        self._send(wire, reply, keeps_alive=keeps_alive, is_head=request is not None and request.method == "HEAD")
        return keeps_alive

    def _send(self, wire: Wire, reply: Answer | Stream, *, keeps_alive: bool, is_head: bool) -> None:
        headers = [
            ("Server", "sandbox"),
            ("Date", formatdate(usegmt=True)),
            ("X-Request-Id", f"sandbox-{next(self._numbers)}"),
            ("Connection", "keep-alive" if keeps_alive else "close"),
            *reply.headers.items(),
        ]
        has_body = reply.status >= 200 and reply.status not in {204, 304}
        if has_body:
            headers.append(("Content-Type", reply.content_type))
        if isinstance(reply, Answer):
            if has_body:
                headers.append(("Content-Length", str(len(reply.body))))
            wire.send(render_head(reply.status, headers) + (reply.body if has_body and not is_head else b""))
            return
        is_chunked = reply.length is None
        headers.append(("Transfer-Encoding", "chunked") if is_chunked else ("Content-Length", str(reply.length)))
        wire.send(render_head(reply.status, headers))
        if not is_head:
            _send_chunks(wire, reply, is_chunked=is_chunked)

    def _log(self, wire: Wire, request: Request, reply: Reply, started: float) -> None:
        outcome = "raw" if isinstance(reply, Raw) else str(reply.status)
        milliseconds = (time.monotonic() - started) * 1000
        # Without the query, which may carry a key.
        path = request.target.partition("?")[0]
        with contextlib.suppress(OSError):  # a log that nobody reads any more ends no service
            print(
                f"{wire.address} {request.method} {path} {outcome} {milliseconds:.1f} ms", file=sys.stderr, flush=True
            )


def _send_chunks(wire: Wire, stream: Stream, *, is_chunked: bool) -> None:
    for chunk in stream.chunks:
        wire.send(b"%x\r\n%b\r\n" % (len(chunk), chunk) if is_chunked else chunk)
    if is_chunked:
        wire.send(b"0\r\n\r\n")

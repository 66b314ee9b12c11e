"""Servers that do exactly what a test tells them, byte for byte, over real sockets."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Play = Callable[[socket.socket], None]


@contextmanager
def serve(play: Play, *, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Run ``play`` on every connection, each in its thread; yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def handle(client: socket.socket) -> None:
        try:
            with context.wrap_socket(client, server_side=True) if context else client as wrapped:
                play(wrapped)
        except OSError:
            pass  # the client left, which many of these tests are about

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def read_head(client: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        piece = client.recv(65536)
        if not piece:
            raise OSError
        received += piece
    return received


def answering(*answers: bytes) -> Play:
    def play(client: socket.socket) -> None:
        for answer in answers:
            read_head(client)
            client.sendall(answer)

    return play


def trickle(before: bytes, piece: bytes) -> Play:
    """Send ``before``, and then ``piece`` every 20 ms for ever."""

    def play(client: socket.socket) -> None:
        read_head(client)
        client.sendall(before)
        while True:
            client.sendall(piece)
            time.sleep(0.02)

    return play

"""Posts signed webhooks over kept connections, each with another id, and prints how many a second were accepted.

``python webhook_load.py PORT PATH SECRET CLIENTS SECONDS``
"""

from __future__ import annotations

import hashlib
import hmac
import socket
import sys
import threading
import time
import uuid

port, path, secret, clients, seconds = sys.argv[1:]
_FILLING = '"data": {"object": {"id": "pi_1", "amount": 2000, "currency": "eur", "description": "' + "x" * 600 + '"}}'


def request() -> bytes:
    body = f'{{"id": "evt_{uuid.uuid4().hex}", "type": "invoice.paid", {_FILLING}}}'.encode()
    now = int(time.time())
    mac = hmac.new(secret.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    head += f"Stripe-Signature: t={now},v1={mac}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def post(counts: list[int]) -> None:
    until, count = time.perf_counter() + float(seconds), 0
    with socket.create_connection(("127.0.0.1", int(port)), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.perf_counter() < until:
            connection.sendall(request())
            answer = b""
            while b"\r\n\r\n" not in answer:
                piece = connection.recv(65536)
                assert piece, "the server closed the connection"
                answer += piece
            # Neither has a body.
            assert answer.startswith(b"HTTP/1.1 200"), answer[:300]
            count += 1
    counts.append(count)


found: list[int] = []
threads = [threading.Thread(target=post, args=(found,)) for _ in range(int(clients))]
began = time.perf_counter()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(found) == len(threads), "a client failed"
print(sum(found) / (time.perf_counter() - began))

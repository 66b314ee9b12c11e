"""A server process that answers every request at once with the same bytes: what shows is the caller's cost."""

from __future__ import annotations

import asyncio
import sys

BODY = b'{"id": "bal_1", "object": "balance", "available": [{"amount": 1250, "currency": "usd"}]}'
if len(sys.argv) > 1:  # its length in bytes
    BODY = BODY.ljust(int(sys.argv[1]))
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: loopback\r\nX-Request-Id: 0123456789\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class Answering(asyncio.Protocol):
    """Requests without a body only: every blank line ends one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self.transport, asyncio.WriteTransport)
        self.transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

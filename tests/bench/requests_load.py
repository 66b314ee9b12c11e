"""Keeps a number of connections busy with one request each, and prints how many answers came in a second.

python requests_load.py PORT PATH AUTHORIZATION CONNECTIONS SECONDS
"""

from __future__ import annotations

import asyncio
import re
import sys
import time

_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)


async def ask(port: int, request: bytes, until: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count = 0
    while time.perf_counter() < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert length, head
        await reader.readexactly(int(length[1]))
        count += 1
    writer.close()
    return count


async def main() -> None:
    port, path, authorization, connections, seconds = sys.argv[1:]
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: {authorization}\r\nAccept: */*\r\n\r\n"
    began = time.perf_counter()
    asking = [ask(int(port), head.encode(), began + float(seconds)) for _ in range(int(connections))]
    print(sum(await asyncio.gather(*asking)) / (time.perf_counter() - began))


if __name__ == "__main__":
    asyncio.run(main())

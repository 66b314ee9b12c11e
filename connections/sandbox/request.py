"""A request as it came over the wire (RFC 9112), read strictly and within bounds."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import parse_qsl, unquote, urlsplit

from connections.sandbox.answers import Refusal
from connections.sandbox.wire import TooMuch, TooSlow, Wire

HEAD_BYTES = 65_536
HEADERS = 200
BODY_BYTES = 32 * 1024 * 1024
FIELDS = 1_000

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_FIELD_NAME = re.compile(_TOKEN)
_FIELD_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_FIRST_BYTES = frozenset(b"\r!#$%&'*+.^_`|~-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")


@dataclass
class Request:
    """``target`` is the path and query as sent; ``path`` is decoded and loses the ``prefix`` that chose a scheme."""

    method: str
    target: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes
    keeps_alive: bool
    prefix: str = ""
    scheme: str = "none"
    arguments: dict[str, str] = field(default_factory=dict)
    # Names, in lower case, of the headers and query parameters in which a credential was checked.
    checked: frozenset[str] = frozenset()

    def header(self, name: str) -> str | None:
        """The only value of a header, None without one.

        :raises Refusal: 400 when it was sent more than once.
        """
        name = name.lower()
        values = [value for key, value in self.headers if key.lower() == name]
        if len(values) > 1:
            raise Refusal(400, "duplicate_header", f"The header {name} was sent {len(values)} times")
        return values[0] if values else None

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        return parse_pairs(self.query)

    @cached_property
    def parameters(self) -> dict[str, str]:
        return dict(self.pairs)

    @property
    def content_type(self) -> str:
        return (self.header("Content-Type") or "").partition(";")[0].strip().lower()

    @property
    def host(self) -> str:
        return (self.header("Host") or "").lower()

    def number(self, name: str, default: float, highest: float, lowest: float = 0) -> float:
        """A query parameter as a number within bounds.

        :raises Refusal: 400 when it is none, or out of bounds.
        """
        text = self.parameters.get(name)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not lowest <= value <= highest:
            raise Refusal(400, "bad_parameter", f"{name} must be a number from {lowest:g} to {highest:g}")
        return value

    def whole(self, name: str, default: int, highest: int, lowest: int = 0) -> int:
        """Like ``number``, for whole numbers written in digits."""
        text = self.parameters.get(name)
        if text is None:
            return default
        if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) or not lowest <= int(text) <= highest:
            raise Refusal(400, "bad_parameter", f"{name} must be a whole number from {lowest} to {highest}")
        return int(text)


def parse_pairs(text: str) -> list[tuple[str, str]]:
    """Name and value pairs of a query or a form.

    :raises Refusal: 400 when there are too many.
    """
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS)
    except ValueError as error:
        raise Refusal(400, "too_many_fields", f"More than {FIELDS} fields") from error


def read_request(wire: Wire, patience_seconds: float) -> Request:
    """Read one request; the client has ``patience_seconds`` from its first byte to its last.

    :raises Refusal: for a request that is malformed, too large or too slow; the connection cannot be used after it.
    :raises ClientGone: when the client left.
    """
    try:
        return _read(wire, patience_seconds)
    except TooSlow as error:
        raise Refusal(408, "too_slow", f"The request took more than {patience_seconds:g} seconds") from error


def _read(wire: Wire, patience_seconds: float) -> Request:
    deadline = time.monotonic() + patience_seconds
    if wire.wait(patience_seconds) not in _FIRST_BYTES:
        raise Refusal(400, "bad_request_line", "This is not HTTP")
    try:
        head = wire.read_until(b"\r\n\r\n", HEAD_BYTES, deadline).lstrip(b"\r\n")
    except TooMuch as error:
        raise Refusal(431, "head_too_large", f"The request's head is over {HEAD_BYTES} bytes") from error
    line, *lines = head.split(b"\r\n")
    method, target, minor = _parse_request_line(line)
    headers = _parse_headers(lines)
    path, query = _split_target(target)
    request = Request(method, target, path, query, headers, b"", keeps_alive=_keeps_alive(headers, minor))
    host = request.header("Host")
    if (host is None and minor == 1) or (host is not None and not _HOST.fullmatch(host)):
        raise Refusal(400, "bad_host", "HTTP/1.1 needs one well-formed Host header")
    request.body = _read_body(request, wire, deadline)
    return request


def _parse_request_line(line: bytes) -> tuple[str, str, int]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Refusal(400, "bad_request_line", "The request line is malformed")
    method, target, major, minor = match.groups()
    if major != b"1" or minor not in b"01":
        raise Refusal(505, "bad_version", "Only HTTP/1.0 and HTTP/1.1 are spoken here")
    return method.decode(), target.decode(), int(minor)


def _parse_headers(lines: list[bytes]) -> list[tuple[str, str]]:
    if len(lines) > HEADERS:
        raise Refusal(431, "too_many_headers", f"More than {HEADERS} headers")
    headers = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not (colon and _FIELD_NAME.fullmatch(name) and _FIELD_VALUE.fullmatch(value)):
            raise Refusal(400, "bad_header", "A header line is malformed")
        headers.append((name.decode(), value.strip(b" \t").decode("latin-1")))
    return headers


def _split_target(target: str) -> tuple[str, str]:
    if not target.startswith("/"):
        try:
            parts = urlsplit(target)
        except ValueError as error:
            raise Refusal(400, "bad_target", "The request target is malformed") from error
        if parts.scheme not in {"http", "https"}:
            raise Refusal(400, "bad_target", "The request target must be a path or an http URL")
        return unquote(parts.path or "/"), parts.query
    path, _, query = target.partition("?")
    return unquote(path), query.partition("#")[0]


def _keeps_alive(headers: list[tuple[str, str]], minor: int) -> bool:
    wishes = [value.lower() for name, value in headers if name.lower() == "connection"]
    return "close" not in wishes if minor else "keep-alive" in wishes


def _read_body(request: Request, wire: Wire, deadline: float) -> bytes:
    length = request.header("Content-Length")
    coding = request.header("Transfer-Encoding")
    if coding is None and length is None:
        return b""
    if coding is not None and length is not None:
        raise Refusal(400, "ambiguous_length", "Content-Length and Transfer-Encoding exclude each other")
    if coding is not None and coding.lower() != "chunked":
        raise Refusal(501, "bad_transfer_encoding", "Only chunked is understood")
    if length is not None and not re.fullmatch(r"[0-9]{1,18}", length, re.ASCII):
        raise Refusal(400, "bad_length", "Content-Length must be a whole number")
    if length is not None and int(length) > BODY_BYTES:
        raise Refusal(413, "body_too_large", f"The body is over {BODY_BYTES} bytes")
    if (request.header("Expect") or "").lower() == "100-continue":
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    return _read_chunks(wire, deadline) if length is None else wire.read_exactly(int(length), deadline)


def _read_chunks(wire: Wire, deadline: float) -> bytes:
    body = bytearray()
    try:
        while True:
            size = _CHUNK_SIZE.fullmatch(wire.read_until(b"\r\n", 1_024, deadline))
            if size is None:
                raise Refusal(400, "bad_chunk", "A chunk's size is malformed")
            count = int(size[1], 16)
            if not count:
                break
            if len(body) + count > BODY_BYTES:
                raise Refusal(413, "body_too_large", f"The body is over {BODY_BYTES} bytes")
            body += wire.read_exactly(count, deadline)
            if wire.read_exactly(2, deadline) != b"\r\n":
                raise Refusal(400, "bad_chunk", "A chunk is longer than its size says")
        for _ in range(HEADERS):
            if not wire.read_until(b"\r\n", HEAD_BYTES, deadline):
                return bytes(body)
    except TooMuch as error:
        raise Refusal(400, "bad_chunk", "A chunk's size or trailer is too long") from error
    raise Refusal(400, "bad_chunk", "Too many trailers")

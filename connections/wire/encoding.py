"""Bodies and queries on the wire: JSON, and forms with nested keys as Stripe documents them (``a[b][0]=c``)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import quote, quote_plus

from connections.wire.arguments import refuse

__all__ = ["encode_body", "encode_call", "encode_query"]

_CONTENT_TYPES = {"json": "application/json", "form": "application/x-www-form-urlencoded"}

_BYTES = "application/octet-stream"
_MAX_DEPTH = 32


def encode_call(data: Any, json: Any, encoding: Literal["json", "form"]) -> tuple[Any, str]:
    """Return the body of a call and its media type, empty where there is neither ``data`` nor ``json``.

    ``data`` is encoded as the provider has it; bytes and text go out as they are, and a file or an iterator comes back
    as it is, to be sent piece by piece. ``json`` is JSON whatever the provider has. Raises `InvalidInput`.
    """
    if data is not None and json is not None:
        raise refuse("json", "and data cannot both be sent")
    if data is None and json is None:
        return None, ""
    if isinstance(data, (bytes, bytearray, str)):
        return (_encode_text(data) if isinstance(data, str) else bytes(data)), _BYTES
    if hasattr(data, "read") or isinstance(data, Iterator):
        return data, _BYTES
    encoding = encoding if json is None else "json"
    return encode_body(data if json is None else json, encoding), _CONTENT_TYPES[encoding]


def encode_body(data: Any, encoding: Literal["json", "form"]) -> bytes:
    """Return the body in the provider's ``request_encoding``; raises `InvalidInput` for data that it cannot carry."""
    if encoding == "form":
        if not isinstance(data, Mapping):
            raise refuse("data", "is not an object, which a form needs")
        return "&".join(
            f"{_quote(name, quote_plus)}={_quote(value, quote_plus)}" for name, value in _flatten(data, "")
        ).encode()
    try:
        return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        raise refuse("data", "cannot be written as JSON") from None


def encode_query(params: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> str:
    """Return an encoded query: a list repeats its name, an object nests (``created[gte]=1``), None is left out."""
    pairs: list[str] = []
    for name, value in _named(params):
        for item in value if isinstance(value, (list, tuple)) else (value,):
            pairs += [f"{_quote(key)}={_quote(text)}" for key, text in _flatten({name: item}, "")]
    return "&".join(pairs)


def _encode_text(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise refuse("data", "holds characters that UTF-8 cannot carry") from None


def _named(params: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(params, Mapping):
        return params.items()
    pairs = list(params) if isinstance(params, Iterable) and not isinstance(params, (str, bytes)) else [params]
    if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
        raise refuse("params", "is neither an object nor a list of names with their values")
    return pairs


def _flatten(data: Any, prefix: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    if depth > _MAX_DEPTH:
        raise refuse("data", "is nested too deeply")
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield from _flatten(value, f"{prefix}[{name}]" if prefix else str(name), depth + 1)
    elif isinstance(data, (list, tuple)):
        for index, value in enumerate(data):
            yield from _flatten(value, f"{prefix}[{index}]", depth + 1)
    elif isinstance(data, bool):
        yield prefix, "true" if data else "false"
    elif isinstance(data, (str, int, float, Decimal)):
        yield prefix, str(data)
    elif data is not None:
        raise refuse("data", f"holds a {type(data).__name__}, which a form cannot carry")


def _quote(text: str, quote_with: Any = quote) -> str:
    try:
        return str(quote_with(text, safe=""))
    except UnicodeEncodeError:
        raise refuse("data", "holds characters that UTF-8 cannot carry") from None

"""Which header fields a caller may set."""

from __future__ import annotations

import re
from collections.abc import Mapping

from connections.wire.arguments import refuse

__all__ = ["check_headers"]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# The transport frames the message and names the host; a caller that did so could smuggle a second request.
_TRANSPORTS_OWN = frozenset(
    ("connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te",
     "trailer", "transfer-encoding", "upgrade")
)  # fmt: skip


def check_headers(fields: Mapping[str, str]) -> None:
    """Raise `InvalidInput` for a field that HTTP cannot carry or that the transport sets."""
    if not isinstance(fields, Mapping):
        raise refuse("headers", "is not an object")
    for name, value in fields.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in _TRANSPORTS_OWN:
            raise refuse("headers", f"the header {str(name)[:60]!r} may not be set")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise refuse(f"headers.{name}", "holds characters that an HTTP header cannot carry")

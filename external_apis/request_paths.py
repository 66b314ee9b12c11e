"""What may be told of a request's path: providers and connect links have secrets in theirs."""

from __future__ import annotations

import re

__all__ = ["shown_path"]

_PROXY = "/api/external/proxy/"
_CONNECT = re.compile(r"/connect/(?:done/)?(?=.)", re.DOTALL)
_ID = re.compile(r"conn_[0-9A-Za-z]{1,60}")


def shown_path(path: str) -> str:
    """Return a path without the token of a connect link, and of a call that is passed on only the connection's id.

    What may be kept of the rest is found among the connection's calls, by the request id.
    """
    if path.startswith(_PROXY):
        connection_id, slash, tail = path.removeprefix(_PROXY).partition("/")
        shown = connection_id if _ID.fullmatch(connection_id) else "[id]"
        return f"{_PROXY}{shown if connection_id else ''}{slash}{'[path]' if tail else ''}"
    link = _CONNECT.match(path)
    return f"{link[0]}[token]" if link else path

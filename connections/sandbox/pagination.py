"""One deterministic list, paged in every style that providers use.

``total`` (100 by default) says how long the list is, ``limit`` (10) how long a page.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import urlencode

from connections.sandbox.answers import Refusal, Reply, answer_json
from connections.sandbox.credentials import API_KEY_QUERY
from connections.sandbox.request import Request
from connections.sandbox.routing import GET, Route
from connections.sandbox.state import State

TOTAL = 1_000_000
LIMIT = 1_000


def _read_size(request: Request) -> tuple[int, int]:
    return request.whole("total", 100, TOTAL), request.whole("limit", 10, LIMIT, 1)


def _slice(start: int, limit: int, total: int) -> list[dict[str, Any]]:
    return [{"id": number, "name": f"Item {number:04d}"} for number in range(start + 1, min(start + limit, total) + 1)]


def list_by_page(request: Request, _state: State) -> Reply:
    """Seed 004's ``page`` and ``limit``: a page shorter than its limit is the last."""
    total, limit = _read_size(request)
    page = request.whole("page", 1, TOTAL, 1)
    return answer_json({"data": _slice((page - 1) * limit, limit, total), "page": page, "limit": limit, "total": total})


def list_by_offset(request: Request, _state: State) -> Reply:
    total, limit = _read_size(request)
    offset = request.whole("offset", 0, TOTAL)
    return answer_json({"data": _slice(offset, limit, total), "offset": offset, "limit": limit, "total": total})


def list_by_cursor(request: Request, _state: State) -> Reply:
    """Seed 004's ``pagination.next_cursor``; with ``loop=1`` the same cursor comes back for ever."""
    total, limit = _read_size(request)
    start = _open_cursor(request.parameters.get("cursor"))
    following = start + limit if start + limit < total else None
    if request.whole("loop", 0, 1):
        following = limit
    cursor = None if following is None else base64.urlsafe_b64encode(f"after:{following}".encode()).decode()
    return answer_json(
        {
            "data": _slice(start, limit, total),
            "pagination": {"next_cursor": cursor, "has_more": cursor is not None},
        }
    )


def _open_cursor(cursor: str | None) -> int:
    if not cursor:
        return 0
    try:
        text = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        text = b""
    match = re.fullmatch(rb"after:([0-9]{1,9})", text)
    if match is None:
        raise Refusal(400, "bad_cursor", "The cursor is not one that was given out here")
    return int(match[1])


def list_by_link(request: Request, _state: State) -> Reply:
    """A bare array, and RFC 8288 links to the first, previous, next and last page."""
    total, limit = _read_size(request)
    page = request.whole("page", 1, TOTAL, 1)
    last = max(1, -(-total // limit))
    targets = {"first": 1, "prev": page - 1, "next": page + 1, "last": last}
    links = [f'<{_link(request, page=n)}>; rel="{rel}"' for rel, n in targets.items() if 1 <= n <= last]
    return answer_json(_slice((page - 1) * limit, limit, total), headers={"Link": ", ".join(links)})


def list_by_next_url(request: Request, _state: State) -> Reply:
    """``next`` is a whole URL or null; ``next_to=`` makes it any other, such as one on a foreign host."""
    total, limit = _read_size(request)
    offset = request.whole("offset", 0, TOTAL)
    following = _link(request, offset=offset + limit) if offset + limit < total else None
    return answer_json(
        {
            "results": _slice(offset, limit, total),
            "count": total,
            "next": request.parameters.get("next_to", following),
        }
    )


def _link(request: Request, **changes: int) -> str:
    """This URL with other parameters; a key in the query is the client's to add again."""
    kept = {name: value for name, value in request.parameters.items() if name != API_KEY_QUERY}
    query = urlencode({**kept, **{name: str(value) for name, value in changes.items()}})
    return f"http://{request.host}{request.target.partition('?')[0]}?{query}"


ROUTES = (
    Route("/items/page", list_by_page, GET, "page, limit, total"),
    Route("/items/offset", list_by_offset, GET, "offset, limit, total"),
    Route("/items/cursor", list_by_cursor, GET, "cursor, limit, total, loop"),
    Route("/items/link", list_by_link, GET, "page, limit, total; the Link header leads on"),
    Route("/items/next-url", list_by_next_url, GET, "offset, limit, total, next_to"),
)

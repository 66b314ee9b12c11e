"""Fetches a small JSON document of a stranger: through the egress guard, and bounded in size and time."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from external_apis import json_input
from external_apis.database_connections import give_back_database_connections
from external_apis.egress import Policy
from external_apis.errors import BadAnswer, InvalidInput
from external_apis.transport import Origin, shared_transport

__all__ = ["fetch_document"]

_MAX_BYTES = 256 * 1024


def fetch_document(url: str, *, deadline: float, policy: Policy | None = None) -> dict[str, Any]:
    """Return a JSON object of at most 256 KiB. Raises `BadAnswer` for another answer, and the transport's errors.

    ``deadline`` is a moment of `time.monotonic`.
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    origin = Origin.of(url)
    headers = {"Accept": "application/json"}
    give_back_database_connections()
    answer = shared_transport(policy).send(
        origin, "GET", target, headers, None, deadline=deadline, max_body_bytes=_MAX_BYTES
    )
    if answer.status != 200:
        raise BadAnswer(f"{origin} answered {answer.status} instead of a document.")
    try:
        document = json_input.load(answer.body)
    except InvalidInput as error:
        raise BadAnswer(f"{origin} answered no JSON document: {error.message[:200]}") from None
    if not isinstance(document, dict):
        raise BadAnswer(f"{origin} answered no JSON object.")
    return document

"""Seed 001's envelope: ``success``, ``data`` or ``error``, ``meta``, and ``pagination`` of a list."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from django.utils import timezone
from pydantic.alias_generators import to_camel

from external_apis import request_context
from external_apis.json_output import timestamp

__all__ = ["camel_keys", "camel_name", "failure", "pagination", "success"]


def success(data: Any, pages: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the body of an answer; ``pages`` is `pagination` where the data is one page of a list."""
    body = {"success": True, "data": data, "meta": _meta()}
    if pages is not None:
        body["pagination"] = pages
    return body


def failure(code: str, message: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of an error."""
    error = {"code": code, "message": message, "details": camel_keys(details)}
    return {"success": False, "error": error, "meta": _meta()}


def pagination(page: int, per_page: int, total: int, *, has_next: bool) -> dict[str, Any]:
    """Describe a page; the first one is 1, also of an empty list."""
    return {
        "page": page,
        "perPage": per_page,
        "total": total,
        "totalPages": -(-total // per_page),
        "hasNext": has_next,
        "hasPrev": page > 1,
    }


def camel_keys(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields under camelCase names. What is inside of them is stored data and keeps its own keys."""
    return {camel_name(name): value for name, value in fields.items()}


@lru_cache(maxsize=1024)
def camel_name(name: str) -> str:
    return to_camel(name)


def _meta() -> dict[str, str]:
    return {"timestamp": timestamp(timezone.now()), "requestId": request_context.current().request_id}

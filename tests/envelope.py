"""Clients of ``/api/external`` for tests, which check the envelope of whatever they are answered."""

from __future__ import annotations

import re
from typing import Any

from tests.rest import RestClient

EXTERNAL = "/api/external"
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
LIMIT_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


def client_of(token: str) -> RestClient:
    return RestClient(headers={"Authorization": f"Bearer {token}"})


def data_of(response: Any, status: int = 200) -> Any:
    """Return the data of a successful answer."""
    body = checked(response)
    assert (response.status_code, body["success"]) == (status, True), body
    return body["data"]


def failure_of(response: Any) -> tuple[int, str]:
    """Return status and code of a failed answer."""
    body = checked(response)
    assert body["success"] is False, body
    return response.status_code, body["error"]["code"]


def named_by(response: Any) -> list[str]:
    """Return the fields that a refusal names."""
    return [error["path"] for error in checked(response)["error"]["details"]["errors"]]


def checked(response: Any) -> dict[str, Any]:
    """Return the body after a look at all that every answer has."""
    assert response["Content-Type"] == "application/json", response.content
    body: dict[str, Any] = response.json()
    if body["success"]:
        assert set(body) - {"pagination"} == {"success", "data", "meta"}
    else:
        assert set(body) == {"success", "error", "meta"}
        assert set(body["error"]) == {"code", "message", "details"}
    assert set(body["meta"]) == {"timestamp", "requestId"}
    assert _TIMESTAMP.fullmatch(body["meta"]["timestamp"])
    assert body["meta"]["requestId"] == response["X-Request-Id"]
    assert all(response[name].isdigit() for name in LIMIT_HEADERS)
    return body

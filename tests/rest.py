"""Clients of the management REST for tests: by key, and by a staff session with its CSRF token."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

PROVIDERS = "/admin/external-apis"
_CSRF_TOKEN = "c" * 32


class RestClient(Client):
    """Sends JSON, and shows a failed request's answer instead of raising what it raised."""

    def __init__(self, **options: Any) -> None:
        super().__init__(enforce_csrf_checks=True, raise_request_exception=False, **options)

    def send(self, method: str, path: str, body: Any = None) -> Any:
        sent = "" if body is None and method != "get" else body
        return getattr(self, method)(path, sent, content_type="application/json")


def with_key() -> RestClient:
    return RestClient(headers={"Authorization": f"Bearer {settings.ADMIN_API_KEY}"})


def signed_in(user: User) -> RestClient:
    client = RestClient(headers={"X-CSRFToken": _CSRF_TOKEN})
    client.force_login(user)
    client.cookies[settings.CSRF_COOKIE_NAME] = _CSRF_TOKEN
    return client


def connections_of(api: Any) -> str:
    return f"{PROVIDERS}/{api.pk}/connections"


def error_of(response: Any) -> tuple[int, str]:
    """Return status and code, after checking the shape of an error."""
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "details"}
    return response.status_code, body["error"]["code"]

"""Who is asking through REST: the holder of ``ADMIN_API_KEY``, or a signed-in user with CSRF protection."""

from __future__ import annotations

import hmac
from typing import Any, ClassVar

from django.conf import settings
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.request import Request

from external_apis import request_context
from external_apis.errors import NotAuthenticated

KEY_ACTOR = "key:ADMIN_API_KEY"


class KeyHolder:
    """Whoever sent the installation's key: may do everything to every tenant's rows, as a superuser may."""

    pk: ClassVar[None] = None
    is_authenticated = is_active = is_staff = is_superuser = True

    def has_perm(self, permission: str, obj: Any = None) -> bool:
        return True

    def __str__(self) -> str:
        return KEY_ACTOR


class ApiKeyAuthentication(BaseAuthentication):
    """``Authorization: Bearer <ADMIN_API_KEY>``; with no key configured none works.

    A request without a bearer token is left to the next class. Raises `NotAuthenticated` for a wrong one, so that a
    session never stands in for it.
    """

    def authenticate(self, request: Request) -> tuple[KeyHolder, None] | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        expected = settings.ADMIN_API_KEY.encode()
        # Headers are decoded as Latin-1; back to the bytes that were sent.
        given = token.strip().encode("latin-1", errors="replace")
        if not expected or not hmac.compare_digest(given, expected):
            raise NotAuthenticated("The API key is not valid.")
        request_context.set_actor(KEY_ACTOR)
        return KeyHolder(), None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class StaffSessionAuthentication(SessionAuthentication):
    """The admin's session cookie; unsafe methods need the CSRF token as well."""

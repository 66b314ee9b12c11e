"""The page on which everybody of the admin changes their own password, recorded in the audit log."""

from __future__ import annotations

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from external_apis import audit


def change_own_password(request: HttpRequest) -> HttpResponse:
    """Django's own page; it leads to another one when the password was changed."""
    with transaction.atomic():
        response: HttpResponse = admin.site.password_change(request)
        if request.method == "POST" and response.status_code == 302:
            audit.record("user.password_changed", request.user)  # type: ignore[arg-type]  # not anonymous here
    return response

"""Sign-ins, log-outs, refusals and lock-outs in the audit log."""

from __future__ import annotations

from typing import Any

from axes.helpers import get_failure_limit
from axes.signals import user_locked_out
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import transaction
from django.http import HttpRequest

from external_apis import audit, request_context
from external_apis.errors import ApiManagerError, Forbidden

__all__ = ["listen", "note_refusal"]


def listen() -> None:
    user_logged_in.connect(_signed_in, dispatch_uid="sign_on.signed_in")
    user_logged_out.connect(_signed_out, dispatch_uid="sign_on.signed_out")
    user_locked_out.connect(_locked_out, dispatch_uid="sign_on.locked_out")


def note_refusal(error: ApiManagerError) -> None:
    """Record that somebody signed in at the provider and was refused here; a forged answer fills no log."""
    if isinstance(error, Forbidden):
        with transaction.atomic():
            audit.record_about("user.refused", "user", changes={"reason": error.message})


def _signed_in(sender: Any, request: HttpRequest, user: Any, **_more: Any) -> None:
    if _is_over_http(request):
        request_context.set_actor(f"user:{user.get_username()}", user_id=user.pk)
        _record("user.signed_in", user)


def _signed_out(sender: Any, request: HttpRequest, user: Any, **_more: Any) -> None:
    if user is not None and _is_over_http(request):
        _record("user.signed_out", user)


def _locked_out(sender: Any, request: Any, username: str | None, **_more: Any) -> None:
    """Once for each lock: whoever goes on knocking adds nothing."""
    if request.axes_failures_since_start != get_failure_limit(request, request.axes_credentials):
        return
    user = get_user_model()._default_manager.filter(username=username or "").first()
    if user is not None:
        _record("user.locked_out", user)


def _record(action: str, user: Any) -> None:
    account = getattr(user, "external_apis_account", None)
    with transaction.atomic():
        audit.record_about(action, "user", str(user.pk), tenant_id=account and account.tenant_id)


def _is_over_http(request: HttpRequest | None) -> bool:
    """Tests and scripts make sessions too, with a request that nobody sent."""
    return request is not None and bool(request.META.get("REMOTE_ADDR"))

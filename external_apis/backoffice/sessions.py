"""The sessions of users: noted at the log-in, kept up to date now and then, listed, and ended from elsewhere.

A session of Django's carries the id of its row. Its key may be exchanged for another one (a changed password does), so
each new key is noted at once; one that is known at most every five minutes. A session that began before there were rows
gets one at its next request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from importlib import import_module
from typing import Any

import redis
from django.conf import settings
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import transaction
from django.db.models import F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Greatest
from django.http import HttpRequest
from django.utils import timezone

from external_apis import audit, valkey
from external_apis.backoffice.models import UserSession
from external_apis.errors import NotFound
from external_apis.ids import can_name
from external_apis.models import Account
from external_apis.user_accounts import account_of

__all__ = ["end", "end_all", "listen", "live_sessions", "note"]

_MARK = "backoffice_session"
_NOTED_EVERY = timedelta(minutes=5)
_SHOWN_CHARACTERS = 200


def listen() -> None:
    """Connect to Django's log-in and log-out."""
    user_logged_in.connect(_logged_in, dispatch_uid="backoffice.logged_in")
    user_logged_out.connect(_logged_out, dispatch_uid="backoffice.logged_out")


def note(request: HttpRequest, user: Any) -> None:
    """Write down that a session is used, if that is due. One that was ended meanwhile is over now."""
    session = request.session
    key = session.session_key
    if key is None or not _is_due(key):
        return
    now = timezone.now()
    # Each request may put the end off, and those until the next note are not told of.
    seen = {"session_key": key, "last_seen_at": now, "expires_at": session.get_expiry_date() + _NOTED_EVERY}
    known = session.get(_MARK)
    if known is None:
        UserSession.objects.filter(expires_at__lt=now).delete()
        account = account_of(user)
        made = {
            **seen, "account": account, "tenant_id": account.tenant_id,
            "user_agent": _told(request.META.get("HTTP_USER_AGENT", "")),
        }  # fmt: skip
        session[_MARK] = UserSession.objects.get_or_create(session_key=key, defaults=made)[0].pk
    elif not UserSession.objects.filter(pk=known, account__user_id=user.pk).update(**seen):
        session.flush()


def live_sessions(account: Account) -> QuerySet[UserSession]:
    """Return the sessions in which the account's user is signed in, the latest log-in first.

    ``ends_at`` is when one ends unless it is used before, by the store of sessions where that tells it.
    """
    now, store = timezone.now(), _store()
    rows = UserSession.objects.filter(account=account, expires_at__gt=now)
    if hasattr(store, "get_model_class"):
        stored = store.get_model_class().objects.filter(session_key=OuterRef("session_key"), expire_date__gt=now)
        return rows.annotate(ends_at=Subquery(stored.values("expire_date"))).filter(ends_at__isnull=False)
    living = [row.pk for row in rows if store.exists(row.session_key)]
    return rows.filter(pk__in=living).annotate(ends_at=Greatest(F("expires_at") - _NOTED_EVERY, now))


def end(account: Account, session_id: str) -> None:
    """Log a browser out at its next request. Raises `NotFound` for a session that is none of the account's."""
    rows = UserSession.objects.select_for_update().filter(account=account, pk=session_id)
    with transaction.atomic():
        row = rows.first() if can_name(session_id) else None
        if row is None:
            raise NotFound(f"Session {ascii(session_id)[1:-1]} not found")
        audit.record("user.session_ended", account, {"session": [row.pk, None]})
        _end([row])


def end_all(account: Account) -> None:
    """Log all browsers of a user out. Call it in the transaction of the reason for it, whose event tells of it."""
    _end(list(UserSession.objects.filter(account=account)))


def _end(rows: Sequence[UserSession]) -> None:
    UserSession.objects.filter(pk__in=[row.pk for row in rows]).delete()
    for row in rows:
        _store(row.session_key).delete()


def _logged_in(sender: Any, request: HttpRequest, user: Any, **_more: Any) -> None:
    if settings.BACKOFFICE_ENABLED and hasattr(request, "session"):
        request.session.pop(_MARK, None)
        note(request, user)


def _logged_out(sender: Any, request: HttpRequest, **_more: Any) -> None:
    key = getattr(getattr(request, "session", None), "session_key", None)
    if key is not None:
        UserSession.objects.filter(session_key=key).delete()


def _is_due(key: str) -> bool:
    """Whether nobody has noted this key in the last minutes; of the key only a digest leaves the database."""
    name = f"{valkey.PREFIX}session:{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    try:
        return bool(valkey.quick_client().set(name, 1, nx=True, ex=int(_NOTED_EVERY.total_seconds())))
    except redis.RedisError:
        return True


def _told(user_agent: str) -> str:
    return "".join(character for character in user_agent if character.isprintable())[:_SHOWN_CHARACTERS]


def _store(key: str | None = None) -> Any:
    return import_module(settings.SESSION_ENGINE).SessionStore(key)

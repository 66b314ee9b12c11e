"""Tells people by e-mail what happened to a connection's grant: once for each incident, and never a secret.

The owner is written to, or else the user whose account it is, or else ``NOTICES_EMAIL``, or else every active superuser
with an address. A mail is done when the server has taken it: after a crash it may come twice, under one Message-ID.
"""

from __future__ import annotations

import time
from datetime import timedelta
from email.utils import parseaddr
from smtplib import SMTPException

import structlog
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.mail import EmailMessage
from django.db import connection as database
from django.urls import reverse
from django.utils import timezone

from connections.models import ExternalApiConnection, GrantEvent
from external_apis.database_connections import give_back_database_connections
from external_apis.health import OK

__all__ = ["look", "send_notices"]

log = structlog.get_logger(__name__)

_BATCH = 100
_CLAIMED_FOR, _SENDING_SECONDS = timedelta(minutes=6), 240.0
_TRIED_FOR, _LATE = timedelta(days=1), timedelta(minutes=5)
_SUBJECTS = {
    "expiring_soon": "access ends soon",
    "expired": "access has expired",
    "revoked": "access was revoked",
    "in_doubt": "a token renewal is in doubt",
    "needs_reauthorization": "please connect again",
    "renewal_failing": "tokens cannot be renewed",
}

# Materialized as in `connections.due_work`.
_CLAIM = f"""
WITH free AS MATERIALIZED (
    SELECT id FROM {GrantEvent._meta.db_table}
    WHERE mail_due AND (mail_claimed_until IS NULL OR mail_claimed_until < %(now)s)
    ORDER BY mail_claimed_until NULLS FIRST, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE {GrantEvent._meta.db_table} SET mail_claimed_until = %(until)s WHERE id IN (SELECT id FROM free) RETURNING id
"""  # noqa: S608 (our own table's name)


def send_notices() -> int:
    """Send what is due; return the number of mails. What cannot be sent is tried again for a day."""
    events, others, started = _claim(), _everybodys_addresses(), time.monotonic()
    done, count = set(), 0
    for event in events:
        if time.monotonic() - started > _SENDING_SECONDS:
            break
        give_back_database_connections()
        if _send(event, _addresses(event.connection) or others):
            count += 1
        elif timezone.now() - event.at < _TRIED_FOR:
            continue
        else:
            log.error("a notice was given up", event_id=event.pk, kind=event.kind)
        done.add(event.pk)
        GrantEvent.objects.filter(pk=event.pk).update(mail_due=False, mail_claimed_until=None)
    # Behind those that nobody has tried yet.
    left = [event.pk for event in events if event.pk not in done]
    GrantEvent.objects.filter(pk__in=left).update(mail_claimed_until=timezone.now())
    return count


def look() -> str:
    """Return ``ok``, or that people have not been told of what happened to grants; one query by an index."""
    waiting = GrantEvent.objects.filter(mail_due=True, at__lt=timezone.now() - _LATE).count()
    return OK if not waiting else f"{waiting} notices reach nobody: see NOTICES_EMAIL and EMAIL_URL"


def _claim() -> list[GrantEvent]:
    now = timezone.now()
    with database.cursor() as cursor:
        cursor.execute(_CLAIM, {"until": now + _CLAIMED_FOR, "now": now, "limit": _BATCH})
        ids = [event_id for (event_id,) in cursor.fetchall()]
    paths = ("connection__external_api", "connection__owner__user", "connection__user__user")
    return list(GrantEvent.objects.filter(pk__in=ids).select_related(*paths).order_by("pk"))


def _send(event: GrantEvent, addresses: list[str]) -> bool:
    if not addresses:
        log.warning("a notice has no recipient: set NOTICES_EMAIL", event_id=event.pk, kind=event.kind)
        return False
    try:
        return bool(_mail(event, addresses).send())
    except (OSError, SMTPException) as error:
        log.warning("a notice could not be sent", event_id=event.pk, error=type(error).__name__)
        return False


def _addresses(row: ExternalApiConnection) -> list[str]:
    """Who looks after the connection, or else whose account it is."""
    users = (account.user for account in (row.owner, row.user) if account is not None)
    return next(([user.email] for user in users if user.email and user.is_active), [])


def _everybodys_addresses() -> list[str]:
    if settings.NOTICES_EMAIL:
        return list(settings.NOTICES_EMAIL)
    rows = get_user_model()._default_manager.filter(is_superuser=True, is_active=True).exclude(email="")
    return sorted(set(rows.values_list("email", flat=True)))


def _mail(event: GrantEvent, addresses: list[str]) -> EmailMessage:
    row = event.connection
    name = " ".join(f"{row.external_api.name}: {row.connection_name}".split())
    page = settings.PUBLIC_BASE_URL + reverse("admin:connections_externalapiconnection_change", args=[row.pk])
    body = f"{name}\n\n{event.message}\n\nAt {event.at:%Y-%m-%d %H:%M} UTC. See {page}\n"
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2] or "localhost"
    headers = {"Message-ID": f"<{event.pk}@{domain}>"}
    return EmailMessage(f"{name}: {_SUBJECTS.get(event.kind, event.kind)}", body, to=addresses, headers=headers)

"""Tells a connection's owner by e-mail what happened to its grant: once for each incident, and never a secret."""

from __future__ import annotations

from datetime import timedelta
from smtplib import SMTPException

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import connection as database
from django.urls import reverse
from django.utils import timezone

from connections.models import ExternalApiConnection, GrantEvent

__all__ = ["send_notices"]

log = structlog.get_logger(__name__)

_BATCH = 100
_TRIED_FOR = timedelta(days=1)
_SUBJECTS = {
    "expiring_soon": "access ends soon",
    "expired": "access has expired",
    "revoked": "access was revoked",
    "in_doubt": "a token renewal is in doubt",
    "needs_reauthorization": "please connect again",
}

_CLAIM = f"""
UPDATE {GrantEvent._meta.db_table} SET mail_due = false WHERE id IN (
    SELECT id FROM {GrantEvent._meta.db_table} WHERE mail_due ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
) RETURNING id
"""  # noqa: S608 (our own table's name)


def send_notices() -> int:
    """Send what is due; return the number of mails. What the mail server does not take is tried again for a day."""
    events = _claim()
    database.close()
    failed, count = [], 0
    for event in events:
        address = _address(event.connection)
        try:
            count += _mail(event, address).send() if address else 0
        except (OSError, SMTPException) as error:
            log.warning("a notice could not be sent", event_id=event.pk, error=type(error).__name__)
            if timezone.now() - event.at < _TRIED_FOR:
                failed.append(event.pk)
    if failed:
        GrantEvent.objects.filter(pk__in=failed).update(mail_due=True)
    return count


def _claim() -> list[GrantEvent]:
    with database.cursor() as cursor:
        cursor.execute(_CLAIM, [_BATCH])
        ids = [event_id for (event_id,) in cursor.fetchall()]
    paths = ("connection__external_api", "connection__owner__user", "connection__user__user")
    return list(GrantEvent.objects.filter(pk__in=ids).select_related(*paths).order_by("pk"))


def _address(row: ExternalApiConnection) -> str:
    """Who looks after the connection, or else whose account it is."""
    accounts = (row.owner, row.user)
    return next((account.user.email for account in accounts if account is not None and account.user.email), "")


def _mail(event: GrantEvent, address: str) -> EmailMessage:
    row = event.connection
    name = " ".join(f"{row.external_api.name}: {row.connection_name}".split())
    page = settings.PUBLIC_BASE_URL + reverse("admin:connections_externalapiconnection_change", args=[row.pk])
    body = f"{name}\n\n{event.message}\n\nAt {event.at:%Y-%m-%d %H:%M} UTC. See {page}\n"
    return EmailMessage(f"{name}: {_SUBJECTS.get(event.kind, event.kind)}", body, to=[address])

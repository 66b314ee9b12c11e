"""Events of grants: signals, mails over a real SMTP server, and an end to old ones."""

from __future__ import annotations

import asyncio
import email
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from email import policy
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from django.db import connection as database
from django.utils import timezone

from connections.models import ExternalApiConnection, Grant, GrantEvent
from connections.oauth import events, notices
from connections.oauth.notices import send_notices
from connections.oauth.sweep import sweep
from connections.services import update_connection
from connections.signals import grant_changed
from external_apis import health
from external_apis.models import Account
from tests.factories import make_user
from tests.grants import kinds, make_granted, secrets_of
from tests.token_server import TokenServer, hang_up, token_server

pytestmark = pytest.mark.django_db(transaction=True)


class Mailbox:
    """What a mail server took; with ``refuses`` it takes nothing."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.refuses = False
        self.meanwhile: Callable[[], None] | None = None

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        if self.refuses:
            return "451 Not now"
        if self.meanwhile is not None:
            await asyncio.to_thread(self.meanwhile)
        self.mails.append(email.message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


@pytest.fixture
def mailbox(settings: Any) -> Iterator[Mailbox]:
    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
    yield box
    controller.stop()


@pytest.fixture
def server(settings: Any, tmp_path: Any) -> Iterator[TokenServer]:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    settings.SPOOL_DIR = str(tmp_path / "spool")
    with token_server() as started:
        yield started


def owned(server: TokenServer, **fields: Any) -> ExternalApiConnection:
    account = Account.objects.get(user=make_user(email="alice@example.com"))
    return make_granted(server, owner_id=account.pk, **fields)


def make_due(row: ExternalApiConnection) -> None:
    Grant.objects.filter(pk=row.pk).update(due_at=timezone.now())


def test_the_owner_is_told_once_of_each_incident(server: TokenServer, mailbox: Mailbox) -> None:
    row = owned(server)
    ExternalApiConnection.objects.filter(pk=row.pk).update(connection_name="Acme\r\nBcc: mallory@example.com")
    token = secrets_of(row)["refresh_token"]
    server.answers = [hang_up]
    sweep()
    for _ in range(2):
        send_notices()
    (mail,) = mailbox.mails
    assert mail["To"] == "alice@example.com"
    assert mail["Bcc"] is None
    assert "in doubt" in mail["Subject"]
    text = mail.get_content()
    assert f"/admin/connections/externalapiconnection/{row.pk}/change/" in text
    assert token not in text
    server.revoked.add(token.split("-")[1])
    make_due(row)
    sweep()
    send_notices()
    assert [mail["Subject"].rpartition(": ")[2] for mail in mailbox.mails] == [
        "a token renewal is in doubt",
        "access has expired",
    ]
    assert "lost" in mailbox.mails[1].get_content()


def test_a_warning_is_not_repeated(server: TokenServer, mailbox: Mailbox) -> None:
    row = owned(server, expires_in=7200, credentials={"refresh_token": None})
    for _ in range(3):
        make_due(row)
        sweep()
    assert send_notices() == 1
    assert kinds(row).count("expiring_soon") == 1


def incident(server: TokenServer, row: ExternalApiConnection | None = None) -> GrantEvent:
    """Something that somebody has to be told of, five minutes ago."""
    row = row or make_granted(server)
    event = events.record(row, "expired", cause="schedule", outcome="succeeded", message="It is over.", mail_due=True)
    GrantEvent.objects.filter(pk=event.pk).update(at=timezone.now() - timedelta(minutes=6))
    return event


def test_without_owner_and_user_the_installations_own_people_are_told(
    server: TokenServer, mailbox: Mailbox, settings: Any
) -> None:
    make_user("root", email="root@example.com", is_superuser=True)
    make_user("gone", email="gone@example.com", is_superuser=True, is_active=False)
    make_user("mute", is_superuser=True)
    incident(server)
    assert send_notices() == 1
    settings.NOTICES_EMAIL = ["ops@example.com", "night@example.com"]
    incident(server)
    assert send_notices() == 1
    assert [mail["To"] for mail in mailbox.mails] == ["root@example.com", "ops@example.com, night@example.com"]


def test_an_owner_who_has_left_is_passed_over(server: TokenServer, mailbox: Mailbox, settings: Any) -> None:
    settings.NOTICES_EMAIL = ["ops@example.com"]
    row = owned(server)
    assert row.owner is not None
    row.owner.user.is_active = False
    row.owner.user.save()
    incident(server, row)
    send_notices()
    assert mailbox.mails[0]["To"] == "ops@example.com"


def test_what_reaches_nobody_is_logged_and_shown_and_waits_a_day(
    server: TokenServer, mailbox: Mailbox, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    event = incident(server)
    assert send_notices() == 0
    assert "no recipient" in caplog.text
    assert "1 notices reach nobody" in notices.look()
    settings.NOTICES_EMAIL = ["ops@example.com"]
    assert send_notices() == 1
    assert notices.look() == health.OK
    settings.NOTICES_EMAIL = []
    GrantEvent.objects.filter(pk=event.pk).update(mail_due=True, at=timezone.now() - timedelta(days=2))
    send_notices()
    assert notices.look() == health.OK
    assert "given up" in caplog.text


def test_a_mail_is_done_only_when_the_server_has_it(server: TokenServer, mailbox: Mailbox, settings: Any) -> None:
    """A sender that dies in between leaves it due: somebody else sends it again, under the same Message-ID."""
    settings.NOTICES_EMAIL = ["ops@example.com"]
    event = incident(server)
    seen: list[tuple[bool, int]] = []

    def look_meanwhile() -> None:
        seen.append((GrantEvent.objects.get(pk=event.pk).mail_due, send_notices()))
        database.close()

    mailbox.meanwhile = look_meanwhile
    assert send_notices() == 1
    assert seen == [(True, 0)], "due, and nobody else's meanwhile"
    mailbox.meanwhile = None
    late = timezone.now() - timedelta(seconds=1)
    GrantEvent.objects.filter(pk=event.pk).update(mail_due=True, mail_claimed_until=late)
    assert send_notices() == 1
    first, second = (mail["Message-ID"] for mail in mailbox.mails)
    assert first == second
    assert event.pk in first


def test_what_the_mail_server_refuses_is_tried_again_for_a_day(server: TokenServer, mailbox: Mailbox) -> None:
    owned(server)
    server.answers = [hang_up]
    sweep()
    mailbox.refuses = True
    assert send_notices() == 0
    assert GrantEvent.objects.filter(mail_due=True).count() == 1
    mailbox.refuses = False
    assert send_notices() == 1
    GrantEvent.objects.update(mail_due=True, at=timezone.now() - timedelta(days=2))
    mailbox.refuses = True
    send_notices()
    assert not GrantEvent.objects.filter(mail_due=True).exists()


def test_what_matters_to_people_is_signalled_after_the_commit(server: TokenServer) -> None:
    heard: list[tuple[str, str]] = []

    def listen(sender: Any, event_id: str, connection_id: str, kind: str, **more: Any) -> None:
        assert GrantEvent.objects.get(pk=event_id).kind == kind
        heard.append((connection_id, kind))

    def fail(sender: Any, **more: Any) -> None:
        raise ZeroDivisionError

    grant_changed.connect(fail)
    grant_changed.connect(listen)
    try:
        row = make_granted(server)
        server.answers = [hang_up]
        sweep()
        make_due(row)
        sweep()
        make_due(row)
        sweep()
        update_connection(row, {"status": "revoked"})
    finally:
        grant_changed.disconnect(listen)
        grant_changed.disconnect(fail)
    assert heard == [(row.pk, "in_doubt"), (row.pk, "restored"), (row.pk, "revoked")]
    assert kinds(row) == ["in_doubt", "restored", "refreshed", "revoked"]


def test_old_routine_goes_and_what_mattered_stays(server: TokenServer) -> None:
    row = make_granted(server)
    for kind in ("refreshed", "refresh_failed", "expired"):
        for _ in range(3):
            events.record(row, kind, cause="schedule", outcome="succeeded")
    GrantEvent.objects.update(at=timezone.now() - timedelta(days=40))
    events.record(row, "refreshed", cause="schedule", outcome="succeeded")
    assert events.prune(batch_size=2) == 6
    assert sorted(kinds(row)) == ["expired"] * 3 + ["refreshed"]

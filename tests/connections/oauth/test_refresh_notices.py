"""Events of grants: signals, mails over a real SMTP server, and an end to old ones."""

from __future__ import annotations

import email
import socket
from collections.abc import Iterator
from datetime import timedelta
from email import policy
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from django.utils import timezone

from connections.models import ExternalApiConnection, Grant, GrantEvent
from connections.oauth import events
from connections.oauth.notices import send_notices
from connections.oauth.sweep import sweep
from connections.services import update_connection
from connections.signals import grant_changed
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

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        if self.refuses:
            return "451 Not now"
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
    account = Account.objects.create(user=make_user(email="alice@example.com"))
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


def test_somebody_without_an_address_is_written_no_mail(server: TokenServer, mailbox: Mailbox) -> None:
    make_granted(server)
    server.answers = [hang_up]
    sweep()
    assert send_notices() == 0
    assert not GrantEvent.objects.filter(mail_due=True).exists()


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
    assert kinds(row) == ["expired"] * 3 + ["refreshed"]

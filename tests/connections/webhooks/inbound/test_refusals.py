"""What the operator is told of refused webhooks: secret, clock or changed body; never what was in them."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from hashlib import sha256
from hmac import digest
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test import Client
from twilio.request_validator import RequestValidator

from connections.models import WebhookEvent, WebhookRefusal
from connections.webhooks.inbound import diagnosis, refusals
from connections.webhooks.inbound.deliveries import Delivery
from connections.webhooks.inbound.diagnosis import diagnose
from connections.webhooks.inbound.receivers import open_receiver
from connections.webhooks.inbound.verdicts import Verdict
from tests.factories import make_tenant
from tests.inbound import SECRET, send, stripe_body, stripe_headers, webhook_provider

pytestmark = pytest.mark.django_db(transaction=True)
OTHER = "whsec_another_of_the_tests_987"


def told(client: Client, body: bytes, headers: dict[str, str], path: str = "stripe", **extra: Any) -> tuple[str, str]:
    """Send what is refused; return the reason and the explanation of the only row."""
    assert send(client, body, path=path, headers=headers, **extra).status_code == 400
    assert refusals.flush(10)
    row = WebhookRefusal.objects.get()
    assert not WebhookEvent.objects.exists()
    assert SECRET not in row.explanation
    assert OTHER not in row.explanation
    return row.reason, row.explanation


def test_another_secret(client: Client) -> None:
    webhook_provider()
    body = stripe_body()
    reason, explanation = told(client, body, stripe_headers(body, OTHER))
    assert reason == "secret"
    assert "copy it from there again" in explanation


def test_the_secret_of_the_test_account(client: Client) -> None:
    webhook_provider()
    other = webhook_provider(secret=OTHER, is_sandbox=True)
    body = stripe_body()
    reason, explanation = told(client, body, stripe_headers(body, OTHER))
    assert reason == "secret"
    assert f"another provider of this slug, {other.pk} (production, sandbox)" in explanation


def test_a_tenants_other_secret_is_found_among_many_tenants(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "_MOST_RELATIVES", 2)
    for number in range(3):
        webhook_provider(tenant=make_tenant(), secret=f"whsec_{number}")
    tenant = make_tenant()
    own = webhook_provider(tenant=tenant, verify_token="verify-me")
    other = webhook_provider(tenant=tenant, secret=OTHER, is_sandbox=True)
    body = stripe_body()
    _, explanation = told(client, body, stripe_headers(body, OTHER), f"stripe/{own.pk}")
    assert f"another provider of this slug, {other.pk}" in explanation
    WebhookRefusal.objects.all().delete()
    _, explanation = told(client, body, stripe_headers(body, "verify-me"), f"stripe/{own.pk}")
    assert "webhook.verify_token" in explanation


def test_another_tenants_secret_is_not_told_of(client: Client) -> None:
    mine = webhook_provider(tenant=make_tenant())
    webhook_provider(tenant=make_tenant(), secret=OTHER)
    body = stripe_body()
    _, explanation = told(client, body, stripe_headers(body, OTHER), f"stripe/{mine.pk}")
    assert "another provider" not in explanation


def test_a_secret_in_the_wrong_field(client: Client) -> None:
    webhook_provider(verify_token=OTHER)
    body = stripe_body()
    reason, explanation = told(client, body, stripe_headers(body, OTHER))
    assert (reason, "webhook.verify_token" in explanation) == ("secret", True)


def test_a_secret_with_blanks_around_it(client: Client) -> None:
    webhook_provider(secret=f" {SECRET}\n")
    body = stripe_body()
    reason, explanation = told(client, body, stripe_headers(body))
    assert (reason, "blanks" in explanation) == ("secret", True)


def test_a_secret_that_is_none_of_the_scheme(client: Client) -> None:
    webhook_provider(slug="acme", scheme="standard", secret="no base64: ß")
    headers = {"webhook-id": "a", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA"}
    reason, explanation = told(client, b"{}", headers, "acme")
    assert (reason, "not base64" in explanation) == ("secret", True)


@pytest.mark.parametrize(("away", "words"), [(-3600, "3600 s ago"), (900, "900 s ahead")])
def test_the_clock(client: Client, away: int, words: str) -> None:
    webhook_provider()
    body, now = stripe_body(), int(time.time())
    reason, explanation = told(client, body, stripe_headers(body, at=now + away))
    assert reason == "clock"
    assert words in explanation or f"{abs(away) + (1 if away < 0 else -1)} s" in explanation


PRETTY = json.dumps(json.loads(stripe_body(text="a/b é")), indent=2, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("signed", "came"),
    [
        (stripe_body(), stripe_body() + b"\n"),
        (stripe_body() + b"\r\n", stripe_body()),
        (b"\xef\xbb\xbf" + stripe_body(), None),
        (PRETTY, json.dumps(json.loads(PRETTY)).encode()),
        (json.dumps(json.loads(PRETTY), separators=(",", ":"), ensure_ascii=False).encode(), PRETTY),
        (json.dumps(json.loads(PRETTY), separators=(",", ":")).replace("/", "\\/").encode(), PRETTY),
        (PRETTY.replace(b"\n", b"\r\n"), PRETTY),
    ],
)
def test_a_changed_body(client: Client, signed: bytes, came: bytes | None) -> None:
    webhook_provider()
    if came is None:
        signed, came = signed[3:], signed
    reason, explanation = told(client, came, stripe_headers(signed))
    assert (reason, "has changed the body" in explanation) == ("body", True)


def test_a_form_that_was_written_again(client: Client) -> None:
    webhook_provider(slug="acme", scheme="hmac", signature_header="X-Sig")
    signed = urlencode({"a": "b c", "d": "é"}).encode()
    headers = {"X-Sig": digest(SECRET.encode(), signed, "sha256").hex()}
    form = "application/x-www-form-urlencoded"
    reason, _ = told(client, b"a=b%20c&d=%c3%a9", headers, "acme", content_type=form)
    assert reason == "body"


def test_another_public_address(client: Client) -> None:
    webhook_provider(slug="twilio")
    fields = {"MessageStatus": "sent"}
    url = "https://hooks.example.com/api/webhooks/twilio"
    headers = {"X-Twilio-Signature": RequestValidator(SECRET).compute_signature(url, fields), "Host": "testserver"}
    form = "application/x-www-form-urlencoded"
    body = urlencode(fields).encode()
    reason, _ = told(client, body, headers, "twilio", content_type=form)
    assert reason == "secret"  # nothing tells of that host
    WebhookRefusal.objects.all().delete()
    url = "https://testserver/api/webhooks/twilio"
    headers["X-Twilio-Signature"] = RequestValidator(SECRET).compute_signature(url, fields)
    reason, explanation = told(client, body, headers, "twilio", content_type=form)
    assert (reason, "PUBLIC_BASE_URL" in explanation) == ("url", True)


def test_no_header(client: Client) -> None:
    webhook_provider()
    reason, explanation = told(client, stripe_body(), {})
    assert (reason, "Stripe-Signature" in explanation) == ("headers", True)


@pytest.mark.parametrize(("fields", "words"), [({"secret": None}, "no secret"), ({"status": "inactive"}, "inactive")])
def test_a_provider_that_cannot_receive(client: Client, fields: dict[str, Any], words: str) -> None:
    webhook_provider(**fields)
    body = stripe_body()
    reason, explanation = told(client, body, stripe_headers(body))
    assert (reason, words in explanation) == ("configuration", True)


def test_many_are_one_row_and_few_lines(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(refusals, "log", _Log(lines))
    api = webhook_provider()
    body = stripe_body(note="Canary")
    for _ in range(50):
        send(client, body, headers=stripe_headers(body, OTHER))
    for number in range(20):
        send(client, body, path=f"nobody-{number}")
    assert refusals.flush(10)
    row = WebhookRefusal.objects.get()
    assert (row.external_api_id, row.reason, row.count, row.address) == (api.pk, "secret", 50, "127.0.0.1")
    assert 2 <= len(lines) < 40
    assert not any("Canary" in line or SECRET in line or "nobody-" in line for line in lines)


def test_a_refusal_is_no_line_of_its_own(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    webhook_provider()
    for path in ("stripe", "nobody"):
        assert send(client, b"{}", path=path, headers={}).status_code == 400
    assert not [record for record in caplog.records if record.name == "django.request"]


class _Log:
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def warning(self, name: str, **facts: object) -> None:
        self._lines.append(f"{name} {facts}")


def test_the_sender_waits_for_no_diagnosis(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(refusals, "diagnose", lambda *_: go.wait(10))
    webhook_provider()
    body = stripe_body()
    began = time.monotonic()
    for _ in range(3):
        assert send(client, body, headers=stripe_headers(body, OTHER)).status_code == 400
    assert time.monotonic() - began < 2
    go.set()


NESTED = 900
HOSTILE = {
    "deep": b"[" * NESTED + b"1," * 45_000 + b"1" + b"]" * NESTED,
    "deep and short": b"[" * NESTED + b"1," * 15_000 + b"1" + b"]" * NESTED,
    "deeper than any reader goes": b"[" * 30_000 + b"]" * 30_000,
    "deep objects": b'{"a":' * NESTED + b"1" + b"}" * NESTED,
    "as deep as is looked at": b"[" * 20 + b"1," * 16_000 + b"1" + b"]" * 20,
    "many short lists": b"[" + b"[1]," * 8_000 + b"1]",
    "what becomes longer as ASCII": b'["' + b"\xc2\x80" * 16_000 + b'"]',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_body_costs_more_than_moments_to_look_into(client: Client, name: str) -> None:
    """Anybody can send one: megabytes and milliseconds, where indents of every level would be gigabytes."""
    api = webhook_provider()
    receiver = open_receiver(api)
    delivery = Delivery(HOSTILE[name], {"stripe-signature": f"t={int(time.time())},v1={'0' * 64}"})
    tracemalloc.start()
    try:
        diagnose(receiver, delivery, Verdict.UNPROVEN, time.time())
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8_000_000
    began = time.thread_time()
    found = diagnose(receiver, delivery, Verdict.UNPROVEN, time.time())
    assert time.thread_time() - began < 1
    assert found.reason == "secret"


def test_causes_are_looked_for_as_long_as_there_is_time(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    webhook_provider()
    body = stripe_body()
    monkeypatch.setattr(refusals, "_ROUND_SECONDS", 0.0)
    assert told(client, body + b"\n", stripe_headers(body))[0] == "secret"
    WebhookRefusal.objects.all().delete()
    monkeypatch.setattr(refusals, "_ROUND_SECONDS", 10.0)
    assert told(client, body + b"\n", stripe_headers(body))[0] == "body"


def test_long_bodies_are_not_tried_out(client: Client) -> None:
    webhook_provider()
    body = stripe_body(text="x" * 40_000)
    assert told(client, body + b"\n", stripe_headers(body))[0] == "secret"


def test_a_diagnosis_that_fails_is_no_end(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    webhook_provider()
    body = stripe_body()
    with monkeypatch.context() as patch:
        patch.setattr(refusals, "diagnose", lambda *_: 1 / 0)
        send(client, body, headers=stripe_headers(body, OTHER))
        assert refusals.flush(10)
    assert told(client, body, stripe_headers(body, OTHER))[0] == "secret"


def test_no_body_is_stored(client: Client) -> None:
    webhook_provider()
    body = stripe_body(note="Canary of a person")
    told(client, body, stripe_headers(body, OTHER))
    with connection.cursor() as cursor:
        cursor.execute("SELECT t::text FROM connections_webhookrefusal AS t")
        (text,) = cursor.fetchone()
    assert "Canary" not in text
    assert sha256(body).hexdigest() not in text

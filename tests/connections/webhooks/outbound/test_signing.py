"""Signatures, by the published vector and by the library that receivers verify with."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from connections.webhooks.outbound import signing
from connections.webhooks.outbound.signing import Signer, living, make_secret, roll

NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)


def test_the_published_vector() -> None:
    signer = Signer(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    at = datetime.fromtimestamp(1614265330, UTC)
    assert signer.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", at, '{"test": 2432232314}') == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_secret_is_random_and_of_the_length_that_is_asked_for() -> None:
    first, second = make_secret(), make_secret()
    assert first != second
    assert first.startswith("whsec_")
    assert 24 <= len(base64.b64decode(first.removeprefix("whsec_"), validate=True)) <= 64


def test_both_secrets_sign_while_they_overlap() -> None:
    before = signing.begin()
    after = roll(before, timedelta(hours=1), NOW)
    now = datetime.now(UTC)
    headers = Signer(living(after, NOW)).headers("msg_1", now, '{"ä":1}')
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (before["secret"], after["secret"]):
        assert Webhook(secret).verify('{"ä":1}'.encode(), headers) == {"ä": 1}
    with pytest.raises(WebhookVerificationError):
        Webhook(make_secret()).verify('{"ä":1}'.encode(), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(after["secret"]).verify(b'{"a":1}', headers)


def test_an_overlap_ends() -> None:
    before = signing.begin()
    after = roll(before, timedelta(hours=1), NOW)
    last = NOW + timedelta(minutes=59)
    assert living(after, last) == [after["secret"], before["secret"]]
    assert living(after, NOW + timedelta(hours=1)) == [after["secret"]]
    assert len(living(roll(before, timedelta(0), NOW), NOW)) == 1
    # What is not over stays as long as it was promised when there is another roll, and what is over goes with it.
    again = roll(after, timedelta(seconds=1), last)
    assert set(living(again, last)) == {again["secret"], after["secret"], before["secret"]}
    assert set(roll(after, timedelta(0), NOW + timedelta(hours=2))) == {"secret"}


def test_there_is_an_end_to_how_many_sign() -> None:
    stored = signing.begin()
    for minute in range(10):
        stored = roll(stored, timedelta(days=1), NOW + timedelta(minutes=minute))
    assert len(living(stored, NOW + timedelta(minutes=10))) == 1 + signing.KEPT_AT_MOST


def test_nothing_shows_a_secret() -> None:
    secret = make_secret()
    assert secret not in repr(Signer([secret]))

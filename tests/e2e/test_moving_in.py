"""Phases 3 and 4 of seed 000: from a ``.env`` file and the old tables to a post, a payment, an SMS and a mail."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from connections import workflows
from connections.models import ExternalApiConnection
from connections.sandbox import credentials
from connections.sandbox.dialects.twilio import ACCOUNT_SID
from connections.services import get_env_secret
from connections.workflows import RunStatus
from tests.connections.imports.old_tables import ACCOUNTS, PLATFORMS, OldShop, key_file_text, old_shop, sealed
from tests.rest import PROVIDERS, with_key
from tests.sandbox import Sandbox
from tests.workflow_runs import finish

pytestmark = pytest.mark.django_db

ENV = f"""
# what the shop was configured with
export STRIPE_SECRET_KEY="{credentials.BEARER_TOKEN}"
TWILIO_ACCOUNT_SID={ACCOUNT_SID}
TWILIO_AUTH_TOKEN='{credentials.BASIC_PASSWORD}'
TWILIO_PHONE_NUMBER=+15005550006
SENDGRID_API_KEY={credentials.BEARER_TOKEN}
SENDGRID_FROM_EMAIL=shop@example.com
FACEBOOK_APP_ID=1234567890
FACEBOOK_APP_SECRET=the-secret-of-the-app
DATABASE_URL=postgresql://shop@db/shop
"""
PAGE_ID = "546349135390552"
DIALECTS = {
    "facebook": "bearer/facebook/v18.0",
    "stripe": "bearer/stripe/v1",
    "twilio": "basic/twilio/2010-04-01",
    "sendgrid": "bearer/sendgrid/v3",
}


@pytest.fixture(scope="module")
def shop(django_db_setup: None, django_db_blocker: Any) -> Iterator[OldShop]:
    with django_db_blocker.unblock(), old_shop("moving_in", is_filled=False) as made:
        made.insert(PLATFORMS, [{"id": "sp_1", "name": "Facebook"}])
        token = {"access_token_encrypted": sealed(credentials.BEARER_TOKEN), "token_type": "Bearer"}
        made.insert(
            ACCOUNTS,
            [
                {
                    "id": "spa_1",
                    "social_platform_id": "sp_1",
                    "account_name": "Our page",
                    "page_id": PAGE_ID,
                    "credentials": token,
                    "token_expires_at": datetime(2099, 1, 1, tzinfo=UTC),
                }
            ],
        )
        yield made


def command(name: str, *arguments: object) -> dict[str, Any]:
    out = io.StringIO()
    call_command(name, *map(str, arguments), "--json", stdout=out, stderr=out)
    answer: dict[str, Any] = json.loads(out.getvalue())
    return answer


def result_of(name: str, given: dict[str, Any]) -> dict[str, Any]:
    run = finish(workflows.start(name, given))
    assert workflows.status_of(run) == RunStatus.SUCCEEDED, run.error_message
    result: dict[str, Any] = workflows.result_of(run)
    return result


def test_a_shop_moves_in_and_works_on(shop: OldShop, sandbox: Sandbox, tmp_path: Path, settings: Any) -> None:
    env, keys, key = tmp_path / ".env", tmp_path / "old.env", uuid.uuid4().hex
    env.write_text(ENV)
    keys.write_text(key_file_text())
    source = ("--database-url", shop.url, "--encryption-key-file", keys, "--report", tmp_path / "failed.jsonl")

    # First what would happen, which changes nothing; then it happens.
    assert command("import_env", "--file", env)["counts"] == {"created": 4}
    command("import_social_platforms", *source)
    assert not ExternalApiConnection.objects.exists()
    assert command("import_env", "--file", env, "--apply")["counts"] == {"created": 4}
    assert command("import_social_platforms", *source, "--apply")["counts"]["created"] >= 1
    assert command("import_env", "--file", env, "--apply")["counts"] == {"recognised": 4}

    # The vendors' own addresses are in what was imported; an operator's PATCH sends the calls to the sandbox instead.
    settings.EGRESS_ALLOW = [f"127.0.0.1:{sandbox.port}"]
    # The sandbox takes no call without Stripe's version, which a live account has a default of.
    more = {"stripe": {"api_version_header": "Stripe-Version"}}
    for slug, path in DIALECTS.items():
        config = {
            "base_url": f"{sandbox.url}/auth/{path}",
            "default_headers": {"X-Sandbox-Key": key},
            **more.get(slug, {}),
        }
        answer = with_key().send("patch", f"{PROVIDERS}/{slug}", {"environment": "development", "api_config": config})
        assert answer.status_code == 200, answer.content

    page = ExternalApiConnection.objects.get(external_api__slug="facebook")
    photo = {"connection_id": page.pk, "image_url": "https://img.example.com/a.jpg", "caption": "We have moved"}
    assert result_of("publish-to-facebook", photo)["post_id"].startswith(f"{PAGE_ID}_")
    payment = {"stripe_connection_id": "stripe/default", "amount": 1999, "currency": "eur"}
    paid = result_of("process-stripe-payment", {**payment, "payment_method": "pm_card_visa"})
    assert paid["payment_intent_id"].startswith("pi_")
    sms = {"twilio_connection_id": "twilio/default", "to_number": "+4915112345678", "message": "Moved"}
    assert result_of("send-sms", sms)["message_sid"].startswith("SM")
    mail = {"to_email": "a@example.com", "subject": "Moved", "html_content": "<p>in</p>"}
    assert result_of("send-email", {"sendgrid_connection_id": "sendgrid/default", **mail})["message_id"]

    sent = {(one["method"], one["target"].partition("?")[0].rpartition("/")[2]) for one in sandbox.requests(key)}
    assert {("POST", "photos"), ("POST", "payment_intents"), ("POST", "Messages.json"), ("POST", "send")} <= sent

    # Nobody needs the file any more.
    assert get_env_secret("STRIPE_SECRET_KEY") == credentials.BEARER_TOKEN
    report = {one["name"]: one for one in command("import_env", "--file", env, "--report")["variables"]}
    assert [name for name, one in report.items() if not one["is_safe_to_delete"]] == []

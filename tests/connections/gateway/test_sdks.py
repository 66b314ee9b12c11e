"""The official SDKs, with nothing changed but their base URL and key."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest
import slack_sdk
import slack_sdk.errors
import stripe
import twilio.base.exceptions
import twilio.rest

from connections.sandbox import credentials
from tests.connections.gateway.conftest import Connect, proxied
from tests.sandbox import Sandbox
from tests.web import Web

pytestmark = pytest.mark.django_db(transaction=True)


def test_stripe(web: Web, connect: Connect, token: str, sandbox: Sandbox) -> None:
    client = stripe.StripeClient(
        token, base_addresses={"api": web.url + proxied(connect("bearer", "/stripe"), "")}, max_network_retries=0
    )
    made = client.v1.customers.create({"name": "Ada", "metadata": {"order": "1"}}, {"idempotency_key": "sdk-1"})
    assert made.id.startswith("cus_")
    assert made.metadata is not None
    assert made.metadata["order"] == "1"
    assert made.last_response is not None
    assert made.last_response.request_id
    assert len(list(client.v1.customers.list({"limit": 10}).auto_paging_iter())) == 25
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.customers.retrieve("nobody")
    assert (refused.value.code, refused.value.http_status) == ("resource_missing", 404)
    assert credentials.BEARER_TOKEN not in str(refused.value)


def test_stripe_with_the_version_in_the_base_url(web: Web, connect: Connect, token: str) -> None:
    """Seed 000's provider has it there, and the SDK sends it as well."""
    row = connect("none", "/stripe/v1")
    client = stripe.StripeClient(
        token, base_addresses={"api": web.url + proxied(row, "/stripe")}, max_network_retries=0
    )
    assert client.v1.customers.retrieve("cus_7").id == "cus_7"


def test_twilio(web: Web, connect: Connect, token: str) -> None:
    client = twilio.rest.Client("AC" + "0" * 32, token)
    client.api.base_url = web.url + proxied(connect("basic", "/twilio"), "")
    message = client.messages.create(to="+15005550006", from_="+15005550001", body="Hello & goodbye")
    assert (message.status, message.body) == ("queued", "Hello & goodbye")
    with pytest.raises(twilio.base.exceptions.TwilioRestException) as refused:
        client.messages.create(to="nobody", body="Hello")
    assert refused.value.code == 21211


def test_slack(web: Web, connect: Connect, token: str) -> None:
    row = connect("bearer", "/slack/api")
    client = slack_sdk.WebClient(token, base_url=web.url + proxied(row, "/"))
    assert client.auth_test()["team"] == "Sandbox"
    assert client.chat_postMessage(channel="C0000000001", text="Grüße")["message"]["text"] == "Grüße"
    with pytest.raises(slack_sdk.errors.SlackApiError) as refused:
        client.chat_postMessage(channel="C0000000002", text="Hello")
    assert refused.value.response["error"] == "channel_not_found"


def test_openai(web: Web, connect: Connect, token: str) -> None:
    row = connect("bearer", "/openai/v1")
    client = openai.OpenAI(api_key=token, base_url=web.url + proxied(row, ""), max_retries=0)
    assert [model.id for model in client.models.list()] == ["sandbox-1"]
    messages: Any = [{"role": "user", "content": "one two three four"}]
    whole = client.chat.completions.create(model="sandbox-1", messages=messages)
    assert whole.choices[0].message.content == "one two three four"
    began = time.monotonic()
    events: Any = client.chat.completions.create(model="sandbox-1", messages=messages, stream=True)
    heard = [(event.choices[0].delta.content or "", time.monotonic() - began) for event in events]
    assert "".join(text for text, _ in heard) == "one two three four"
    # Each word comes when it is said, not when all are.
    assert heard[-1][1] - heard[0][1] > 0.5
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="another", messages=messages)

"""No secret in an error, a log, an event or a response; and no database connection held while the upstream is slow."""

from __future__ import annotations

import logging
import traceback
from typing import Any

import pytest
from django.db import connection, transaction

from connections.client import Event
from connections.sandbox import credentials
from external_apis.errors import ApiManagerError
from tests.connections.client.conftest import MakeClient

SCHEMES = (
    "bearer", "api-key-header", "api-key-query", "headers", "basic", "hmac", "oauth1", "oauth2", "bearer-and-key",
    "aws-sigv4",
)  # fmt: skip
PATHS = (
    "/me",
    "/status/500",
    "/close?when=body",
    "/not-http",
    "/redirect?to=http://169.254.169.254/",
    "/headers?count=200",
    "/redirect-loop",
    "/hang",
)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_that_a_call_leaves_behind_holds_a_secret(
    make_client: MakeClient, events: list[Event], caplog: pytest.LogCaptureFixture, scheme: str
) -> None:
    caplog.set_level(logging.DEBUG)
    client = make_client(scheme, retry_config={"max_retries": 1, "backoff_ms": 1})
    left = [repr(client)]
    for path in PATHS:
        try:
            response = client.get(path, timeout_ms=150)
        except ApiManagerError as error:
            left += ["".join(traceback.format_exception(error)), repr(error), repr(error.details), repr(vars(error))]
        else:
            left += [repr(response), response.url, repr(response.request.headers), str(response.request.url)]
    left += [repr(event) for event in events]
    left.append(caplog.text)
    text = "\n".join(left)
    assert len(events) > len(PATHS)
    for secret in (*credentials.SECRETS, "Basic c2"):
        assert secret not in text


def test_an_event_shows_the_request_with_its_secrets_blacked_out(make_client: MakeClient, events: list[Event]) -> None:
    make_client("api-key-query").post(
        "/echo?page=2&session_token=hunter22", {"pin": "hunter22"}, headers={"X-Auth": "hunter22", "X-Trace": "t1"}
    )
    shown = events[0].request
    assert shown is not None
    assert shown.url.endswith("/echo?page=2&session_token=[redacted]&api_key=[redacted]")
    assert shown.headers["X-Auth"] == "[redacted]"
    assert shown.headers["X-Trace"] == "t1"
    assert shown.body_bytes == 18
    assert "hunter22" not in repr(events)
    assert [event.kind for event in events] == ["attempt", "answer", "outcome"]


@pytest.mark.django_db(transaction=True)
def test_a_database_connection_is_given_back_before_the_upstream_is_called(make_client: MakeClient) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert connection.connection is not None
    make_client().get("/balance")
    assert connection.connection is None


@pytest.mark.django_db(transaction=True)
def test_an_open_transaction_is_left_alone(make_client: MakeClient) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        make_client().get("/balance")
        held: Any = connection.connection
        assert held is not None
        cursor.execute("SELECT 1")

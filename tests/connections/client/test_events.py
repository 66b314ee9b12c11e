"""Whoever watches a client is told of every step, and of how each call ended."""

from __future__ import annotations

from uuid import uuid4

import pytest

from connections.client import Event
from external_apis.errors import ApiManagerError, EgressRefused, RateLimited, UpstreamClientError, UpstreamServerError
from tests.connections.client.conftest import MakeClient


def test_a_call_that_succeeds_ends_in_one_outcome_with_its_status(make_client: MakeClient, events: list[Event]) -> None:
    key = uuid4().hex
    make_client().get(f"/flaky?key={key}&fails=1")
    assert [event.kind for event in events] == [
        "attempt", "answer", "failure", "wait", "attempt", "answer", "outcome",
    ]  # fmt: skip
    assert events[-1].status == 200
    assert events[-1].reason == ""
    assert events[-1].seconds > 0
    assert len({event.request_id for event in events}) == 1


@pytest.mark.parametrize(
    ("path", "error", "status"),
    [
        ("/status/404", UpstreamClientError, 404),
        ("/status/500", UpstreamServerError, 500),
        ("/redirect?to=http://169.254.169.254/", EgressRefused, None),
    ],
)
def test_a_call_that_fails_ends_in_one_outcome_with_its_reason(
    make_client: MakeClient, events: list[Event], path: str, error: type[ApiManagerError], status: int | None
) -> None:
    with pytest.raises(error):
        make_client().get(path)
    (outcome,) = (event for event in events if event.kind == "outcome")
    assert outcome is events[-1]
    assert (outcome.reason, outcome.status) == (error.code, status)


def test_a_call_that_gets_no_slot_has_an_outcome_too(make_client: MakeClient, events: list[Event]) -> None:
    client = make_client(rate_limit={"requests_per_hour": 1})
    client.get("/balance")
    events.clear()
    with pytest.raises(RateLimited):
        client.get("/balance", timeout_ms=100)
    assert [(event.kind, event.reason) for event in events] == [("outcome", RateLimited.code)]


@pytest.mark.parametrize("kind", ["attempt", "answer", "outcome"])
def test_a_listener_that_fails_changes_no_result(
    make_client: MakeClient, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    def listen(event: Event) -> None:
        if event.kind == kind:
            raise RuntimeError("metrics are down")

    client = make_client("bearer")
    client.on_event = listen
    assert client.post("/echo", {"a": 1}).json()["json"] == {"a": 1}
    assert f"failed at the event {kind}" in caplog.text

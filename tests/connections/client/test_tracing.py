"""Traces go to a real collector where the environment names one, without a secret; otherwise nothing is loaded."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from connections.client import tracing
from external_apis import request_context
from external_apis.request_context import RequestContextMiddleware
from tests.otlp_receiver import Receiver, receiving, values_of
from tests.sandbox import ROOT, Sandbox
from tests.sockets import serve

SECRET = "canary-swordfish-0123456789"

CALLS = """
import contextlib, dataclasses, os, sys, django
django.setup()
from django.conf import settings
settings.EGRESS_ALLOW = ["127.0.0.1"]
from connections.client import ApiClient, Clock, Target
from external_apis import request_context
from external_apis.api_config import parse
from external_apis.crypto import Secrets
from external_apis.errors import ApiManagerError
url, secret = sys.argv[1:]
request_context.start("request-of-this-test")
parent = os.environ.get("PARENT", "")
request_context._current.set(dataclasses.replace(request_context.current(), traceparent=parent))
config = parse({"base_url": url, "auth_type": "bearer", "retry_config": {"max_retries": 1}}, environment="development")
clock = Clock(sleep=lambda seconds: None)
target = Target("ext_api_1", "acme", "conn_1", "default", config, Secrets({"access_token": secret}))
client = ApiClient(target, clock=clock)
if path := os.environ.get("STREAM"):
    with client.get(path, stream=True) as response, contextlib.suppress(ApiManagerError):
        response.raw.read()
    sys.exit(0)
client.get("/balance", params={"key": "tracing", "password": secret}, headers={"X-Secret": secret})
for path in ("/status/503", f"/status/404/{secret}"):
    try:
        client.post(path, json={"secret": secret}, params={"q": secret})
    except ApiManagerError:
        pass
print("opentelemetry.exporter" in sys.modules)  # Valkey's client loads the SDK itself wherever it is installed
"""


WITHOUT_EXTRA = 'import sys; sys.modules["opentelemetry.exporter.otlp.proto.http.trace_exporter"] = None\n'


def run(url: str, lines: int = 0, environ: dict[str, str] | None = None, before: str = "") -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", before + CALLS, url, SECRET],
        check=False,
        cwd=ROOT,
        env={**clean, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    told = [line for line in done.stderr.splitlines() if "opentelemetry" in line or "[otel]" in line]
    assert len(told) <= lines, done.stderr
    return "\n".join([done.stdout.strip(), *(line for line in told if "[otel]" in line)])


def test_a_span_for_each_call_with_an_event_for_each_step(sandbox: Sandbox) -> None:
    with receiving() as receiver:
        assert run(sandbox.url, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}) == "True"
    check(receiver, sandbox)


@pytest.mark.parametrize("collector", ["gone", "hanging"])
def test_a_collector_that_is_away_holds_nobody_up(sandbox: Sandbox, collector: str) -> None:
    with serve(lambda client: time.sleep(30)) as port:
        url = "http://127.0.0.1:1" if collector == "gone" else f"http://127.0.0.1:{port}"
        began = time.monotonic()
        assert run(sandbox.url, 1, {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "STREAM": "/balance"}) == ""
        assert time.monotonic() - began < 8  # most of it to start; the exporter itself takes 10 more


def test_a_span_ends_with_the_stream_and_stands_below_the_callers(sandbox: Sandbox) -> None:
    with receiving() as receiver:
        more = {"STREAM": "/lie?content_length=500&bytes=10", "PARENT": f"00-{'ab' * 16}-{'cd' * 8}-01"}
        run(sandbox.url, environ={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, **more})
    (span,) = receiver.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == ("ab" * 16, "cd" * 8)
    assert values_of(span.attributes)["error.type"] == "BAD_ANSWER"
    assert [event.name for event in span.events][-2:] == ["outcome", "failure"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [(f"00-{'ab' * 16}-{'cd' * 8}-01", True), (f"01-{'ab' * 16}-{'cd' * 8}-01", False), ("x", False), ("", False)],
)
def test_a_callers_traceparent(sent: str, kept: bool) -> None:
    found: list[str] = []

    def look(_: object) -> HttpResponse:
        found.append(request_context.current().traceparent)
        return HttpResponse()

    RequestContextMiddleware(look)(RequestFactory().get("/", headers={"traceparent": sent}))
    assert found == [sent if kept else ""]


def check(receiver: Receiver, sandbox: Sandbox) -> None:
    good, busy, missing = receiver.spans
    assert set(receiver.paths) == {"/v1/traces"}
    assert receiver.resources[0]["service.name"] == "external-api-manager"
    told = values_of(good.attributes)
    assert (good.name, told["http.response.status_code"], told["url.path"]) == ("GET acme", 200, "/balance")
    assert told["eam.connection.id"] == "conn_1"
    assert told["eam.request.id"] == "request-of-this-test"
    assert [event.name for event in good.events] == ["attempt", "answer", "outcome"]
    assert good.start_time_unix_nano <= good.events[0].time_unix_nano <= good.end_time_unix_nano
    told = values_of(busy.attributes)
    assert told["error.type"] == "UPSTREAM_SERVER_ERROR"
    assert busy.status.code == 2
    assert values_of(missing.attributes)["url.path"] == "/status/404/***"
    assert not any(SECRET.encode() in raw for raw in receiver.raw)
    headers: list[Any] = [dict(request["headers"]) for request in sandbox.requests("tracing")]
    assert headers
    assert not any("traceparent" in {name.lower() for name in sent} for sent in headers)


def test_without_the_extra_a_line_says_so_and_calls_go_on(sandbox: Sandbox) -> None:
    """Clusters put the variable into every container that they start."""
    away = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    said = run(sandbox.url, lines=1, before=WITHOUT_EXTRA, environ=away)
    _, line = said.splitlines()
    assert "No traces: OTEL_EXPORTER_OTLP_ENDPOINT is set, and the extra [otel] is not installed." in line


@pytest.mark.parametrize("off", [{}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_off_means_that_nothing_is_loaded(sandbox: Sandbox, off: dict[str, str]) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"} if off else {}
    assert run(sandbox.url, environ={**off, **endpoint}) == "False"


def test_a_collector_that_is_away_is_told_of_once_in_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seldom = [1000.0], tracing._Seldom()
    monkeypatch.setattr(tracing, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    line = logging.LogRecord("exporter", logging.ERROR, "", 0, "away", None, None)
    assert [seldom.filter(line) for _ in range(2)] == [True, False]
    clock[0] += 600
    assert [seldom.filter(line) for _ in range(2)] == [True, False]

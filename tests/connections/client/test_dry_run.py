"""A dry run shows the call as a curl command that a shell can run, and no secret."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from typing import Any

import pytest

from connections.client import Clock, Event
from connections.sandbox import credentials
from tests.connections.client.conftest import MakeClient
from tests.sandbox import Sandbox

SCHEMES = {
    "bearer": '"$ACCESS_TOKEN"',
    "api-key-header": '"$API_KEY"',
    "api-key-query": '"$API_KEY"',
    "headers": '"$APP_KEY"',
    "basic": '"$AUTHORIZATION"',
    "hmac": '"$X_SIGNATURE"',
    "oauth1": '"$AUTHORIZATION"',
    "oauth2": '"$ACCESS_TOKEN"',
    "client-credentials": '"$ACCESS_TOKEN"',
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_shows_a_placeholder_and_no_secret(
    make_client: MakeClient, events: list[Event], sandbox: Sandbox, scheme: str
) -> None:
    total = sandbox.total()
    command = make_client(scheme).dry_run("POST", "/echo?page=2", {"a": "it's"}, headers={"X-Trace": "t1"})
    assert SCHEMES[scheme] in command
    for secret in (*credentials.SECRETS, credentials.BASIC_USERNAME):
        assert secret not in command
    assert command.startswith("curl -X POST 'http://127.0.0.1")
    assert "page=2" in command
    assert "-H 'X-Trace: t1'" in command
    assert sandbox.total() == total
    assert events == []


def words(command: str, **variables: str) -> list[str]:
    """What a POSIX shell makes of the command."""
    script = command.replace("curl ", "printf '%s\\0' ", 1)
    done = subprocess.run(
        ["/bin/sh", "-c", script], env={"PATH": os.environ["PATH"], **variables}, capture_output=True, check=True
    )
    return done.stdout.decode().split("\0")[:-1]


NASTY = "$(touch /tmp/owned) `id` \" ' \\ ! \n * ; & | ~ $HOME é"


def test_a_shell_reads_back_what_was_meant(make_client: MakeClient) -> None:
    client = make_client("bearer")
    command = client.dry_run("POST", "/echo", {"text": NASTY, "password": "hunter22", "list": [{"api_key": NASTY}]})
    assert "hunter22" not in command
    read = words(command, ACCESS_TOKEN=credentials.BEARER_TOKEN, PASSWORD="hunter22", API_KEY="k")
    assert f"Authorization: Bearer {credentials.BEARER_TOKEN}" in read
    assert json.loads(read[-1]) == {"text": NASTY, "password": "hunter22", "list": [{"api_key": "k"}]}


def test_secrets_that_are_no_text_are_hidden(make_client: MakeClient) -> None:
    data = {"secret": 12345678, "password": {"value": "hunter22"}, "tokens": ["hunter33"], "n": 42, "session": None}
    command = make_client().dry_run("POST", "/x", data)
    assert "hunter" not in command
    assert "12345678" not in command
    assert json.loads(words(command, SECRET="s", PASSWORD="p", TOKENS="t")[-1]) == {
        "secret": "s", "password": "p", "tokens": "t", "n": 42, "session": None,
    }  # fmt: skip


def test_the_idempotency_key_of_each_call_is_a_placeholder(make_client: MakeClient) -> None:
    client = make_client(retry_config={"idempotency_header": "Idempotency-Key"})
    assert "-H 'Idempotency-Key: '\"$IDEMPOTENCY_KEY\"" in client.dry_run("POST", "/x", {})
    assert "'Idempotency-Key: mine'" in client.dry_run("POST", "/x", {}, headers={"Idempotency-Key": "mine"})
    assert "Idempotency" not in client.dry_run("GET", "/x")


def test_secrets_in_forms_queries_and_bodies_are_hidden(make_client: MakeClient) -> None:
    client = make_client("bearer", request_encoding="form")
    command = client.dry_run(
        "POST",
        "/x?session_token=hunter22",
        {"client_secret": "hunter33", "name": credentials.BEARER_TOKEN, "b": "c d"},
        headers={"X-Auth": "hunter44", "Cookie": "a=hunter55"},
    )
    for secret in ("hunter", credentials.BEARER_TOKEN):
        assert secret not in command
    assert "b=c+d" in command
    assert '"$SESSION_TOKEN"' in command
    assert '"$CLIENT_SECRET"' in command
    assert '"$COOKIE"' in command


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a\0b", "\ue000X\ue001", io.BytesIO(b"file")])
def test_a_body_that_no_shell_can_hold_is_left_to_a_file(make_client: MakeClient, data: Any) -> None:
    assert make_client().dry_run("PUT", "/x", data).endswith("--data-binary @FILE")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("scheme", ["bearer", "api-key-query"])
def test_curl_runs_it(make_client: MakeClient, scheme: str) -> None:
    command = make_client(scheme, clock=Clock()).dry_run("POST", "/echo", {"a": "b c"})
    secrets = {"ACCESS_TOKEN": credentials.BEARER_TOKEN, "API_KEY": credentials.QUERY_API_KEY}
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} -s"], env={"PATH": os.environ["PATH"], **secrets}, capture_output=True, check=True
    )
    assert "b c" in done.stdout.decode()

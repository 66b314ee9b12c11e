"""``manage.py call`` and ``manage.py providers resolve``, against the real sandbox."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from connections.sandbox import credentials
from connections.seeding import seed_sandbox
from tests.factories import make_provider, make_tenant
from tests.sandbox import Sandbox


@pytest.fixture(autouse=True)
def _seeded(db: None, sandbox: Sandbox, settings: Any) -> None:
    settings.EGRESS_ALLOW = [f"127.0.0.1:{sandbox.port}"]
    seed_sandbox(sandbox.url)


def call(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("call", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_body_is_printed_as_it_came() -> None:
    out, err = call("sandbox-bearer/default", "get", "/me")
    assert json.loads(out)
    assert err == ""
    assert call("sandbox-bearer", "GET", "/me")[0] == out


def test_data_json_query_and_headers_reach_the_provider(tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text('{"from": "a file"}')
    echo = ("sandbox-none", "POST", "/echo")
    seen = json.loads(
        call(*echo, "-d", "a=1", "-d", "a=2", "-d", "b==x", "--query", "q=r s", "--header", "X-Own: yes")[0]
    )
    assert {"a", "b", "q", "r s", "yes"} <= set(flat(seen)), seen
    assert "a file" in flat(json.loads(call(*echo, "--json", f"@{file}")[0]))
    assert "inline" in flat(json.loads(call(*echo, "--json", '{"x": "inline"}')[0]))


def test_what_cannot_be_sent_is_said_in_one_line() -> None:
    for arguments, problem in {
        ("--json", "{"): "not JSON",
        ("--json", "@/no/such/file"): "No such file",
        ("--data", "=x"): "NAME=VALUE",
        ("--header", "none"): "NAME:VALUE",
        ("--tenant", "nobody"): "Tenant nobody not found",
        ("--environment", "production"): "not found",
    }.items():
        with pytest.raises(CommandError, match=problem):
            call("sandbox-none", "POST", "/echo", *arguments)


def test_an_error_of_the_provider_is_an_error_of_the_command() -> None:
    with pytest.raises(CommandError, match="404") as caught:
        call("sandbox-none", "GET", "/status/404")
    assert caught.value.returncode == 1
    assert "\n" not in str(caught.value)
    with pytest.raises(CommandError, match="not found"):
        call("no-such-provider", "GET", "/")


def test_verbosity_two_shows_the_steps_and_no_secret() -> None:
    out, err = call("sandbox-bearer/default", "GET", "/me", "-v", "2")
    assert json.loads(out)
    assert "> attempt 1: GET http://127.0.0.1" in err
    assert "! attempt" not in err
    assert "[redacted]" in err
    assert "< 200 after" in err
    assert credentials.BEARER_TOKEN not in err
    error = io.StringIO()
    with pytest.raises(CommandError):
        call_command("call", "sandbox-bearer", "GET", "/../../status/404", "-v", "2", stderr=error)
    assert credentials.BEARER_TOKEN not in error.getvalue()


def test_a_terminal_gets_readable_json_without_control_characters() -> None:
    out = Terminal()
    call_command("call", "sandbox-none", "POST", "/echo", "--json", '{"x": "\\u009b31m"}', stdout=out)
    assert out.getvalue().startswith("{\n  ")
    assert "\u009b" not in out.getvalue()


def test_a_dry_run_prints_a_curl_command_and_sends_nothing(sandbox: Sandbox) -> None:
    before = sandbox.total()
    out, _ = call("sandbox-bearer", "POST", "/echo", "--data", "a=b", "--dry-run")
    assert out.startswith("curl -X POST http://127.0.0.1")
    assert '"$ACCESS_TOKEN"' in out
    assert credentials.BEARER_TOKEN not in out
    assert sandbox.total() == before


def test_tenants_may_be_named_by_slug() -> None:
    tenant = make_tenant("acme")
    assert call("sandbox-bearer", "GET", "/me", "--tenant", "acme") == call(
        "sandbox-bearer", "GET", "/me", "--tenant", tenant.pk
    )


def test_resolve_explains_its_choice() -> None:
    tenant = make_tenant()
    shared, own = make_provider(slug="stripe"), make_provider(slug="stripe", tenant=tenant)
    out = io.StringIO()
    call_command("providers", "resolve", "stripe", "--tenant", tenant.pk, stdout=out)
    first, second = out.getvalue().splitlines()
    assert first.startswith(f"-> {own.pk} (tenant, production)")
    assert shared.pk in second
    with pytest.raises(CommandError, match="no active provider"):
        call_command("providers", "resolve", "paypal", stdout=out)


def test_connections_are_listed_and_shown_without_a_secret(sandbox: Sandbox) -> None:
    out = io.StringIO()
    call_command("connections", "list", "--provider", "sandbox-bearer", stdout=out)
    assert out.getvalue().split("\t")[:3] == ["sandbox-bearer/default", "active", "development"]
    terminal = Terminal()
    call_command("connections", "list", "--limit", "2", stdout=terminal)
    shown = io.StringIO()
    call_command("connections", "show", "sandbox-bearer", stdout=shown)
    facts = json.loads(shown.getvalue())
    assert facts["base_url"].startswith(sandbox.url)
    assert set(facts["credentials"]) == {"access_token"}
    assert credentials.BEARER_TOKEN not in shown.getvalue()
    with pytest.raises(CommandError, match="not found"):
        call_command("connections", "show", "no-such/default", stdout=shown)


def flat(value: Any) -> list[Any]:
    """Every key and value anywhere in parsed JSON."""
    if isinstance(value, dict):
        return [item for key, inner in value.items() for item in (key, *flat(inner))]
    if isinstance(value, list):
        return [item for inner in value for item in flat(inner)]
    return [value]

"""``manage.py api_keys``: a token on standard output and nowhere else."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from external_apis import keys
from external_apis.authentication import authenticate_token
from external_apis.key_format import is_well_formed
from external_apis.models import ApiKey, AuditEvent
from tests.factories import make_key, make_tenant

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("api_keys", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_create_prints_the_token_and_nothing_else_where_a_script_reads() -> None:
    tenant = make_tenant("acme")
    out, err = run(
        "create", "CI", "--mode", "test", "--scope", "providers:read", "--scope", "proxy", "--tenant", "acme",
        "--network", "127.0.0.1", "--rate-limit", "9", "--expires-in", "30", "--service", "ci",
    )  # fmt: skip
    token = out.strip()
    assert is_well_formed(token)
    assert token not in err
    key = ApiKey.objects.get()
    assert key.pk in err
    assert (key.title, key.mode, key.tenant, key.service, key.rate_limit) == ("CI", "test", tenant, "ci", 9)
    assert key.scopes == ["providers:read", "proxy"]
    assert key.expires_at is not None
    assert (key.expires_at - key.created_at).days in (29, 30)
    assert key.created_by == "command:api_keys create"
    assert authenticate_token(token, "127.0.0.1").key_id == key.pk
    assert AuditEvent.objects.get().actor == "command:api_keys create"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "x", "--tenant", "nobody"], "Tenant nobody not found"),
        (["create", "x", "--scope", "everything"], "there is no scope 'everything'"),
        (["create", "x", "--type", "publishable"], "belongs to a tenant"),
        (["create", "x", "--expires-in", "-999999999999"], "lies in the past"),
        (["create", "x", "--network", "home"], "allowed_networks.0"),
        (["revoke", "apk_missing"], "API key apk_missing not found"),
        (["roll", "apk_missing"], "API key apk_missing not found"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run(*arguments)
    assert not ApiKey.objects.exists()


def test_list_shows_what_may_be_shown() -> None:
    made, other = make_key(title="Mine", tenant=make_tenant("acme")), make_key(title="Other")
    keys.revoke(other.key)
    out, _ = run("list")
    assert [line.split("\t")[1] for line in out.splitlines()] == ["Other", "Mine"]
    assert made.token not in out
    assert made.key.redacted in out
    assert run("list", "--tenant", "acme")[0].split("\t")[1:] == [
        "Mine", made.key.redacted, "secret", "live", "active", "acme", "never\n",
    ]  # fmt: skip
    assert "Other" in run("list", "--status", "revoked")[0]
    assert "Mine" not in run("list", "--status", "revoked")[0]


def test_verify_reads_the_key_from_a_pipe(monkeypatch: Any) -> None:
    made = make_key(title="Mine")

    def verify(text: str) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        return run("verify")[0]

    assert "Mine" in verify(f"{made.token}\n")
    with pytest.raises(CommandError, match="not valid"):
        verify("sk_live_x\n")
    with pytest.raises(CommandError, match="not valid"):
        verify("")
    keys.revoke(made.key)
    with pytest.raises(CommandError, match="revoked"):
        verify(made.token)


def test_roll_and_revoke_tell_of_the_remaining_use() -> None:
    made = make_key()
    out, err = run("roll", made.key.pk, "--overlap", "3600")
    assert is_well_formed(out.strip())
    assert out.strip() not in err
    assert "It has not been used." in err
    assert authenticate_token(made.token, None)
    ApiKey.objects.filter(pk=made.key.pk).update(last_used_at=made.key.created_at, last_used_from="192.0.2.1")
    out, _ = run("revoke", made.key.pk)
    assert "from 192.0.2.1" in out
    assert keys.find(made.key.pk).revoked_by == "command:api_keys revoke"
    with pytest.raises(CommandError, match="revoked already"):
        run("revoke", made.key.pk, "--in", "60")

"""What ``SERVICE_API_ISSUERS`` may hold, and how a mistake in it is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.environment import Environment
from external_apis.trusted_issuers import TrustedIssuer, parse

ISSUER = "https://id.example.com/realms/x"


def test_three_of_four_are_optional() -> None:
    assert parse("", "ours") == ()
    assert parse(json.dumps([{"issuer": ISSUER}]), "ours") == (TrustedIssuer(ISSUER, "ours", "tenant_id", "scope"),)
    full = {"issuer": f"{ISSUER}/", "audience": "a", "tenant_claim": "https://x/t", "scopes_claim": "scp"}
    assert parse(json.dumps([full]), "ours") == (TrustedIssuer(f"{ISSUER}/", "a", "https://x/t", "scp"),)
    assert parse('[{"issuer": "http://127.0.0.1:8080/o"}]', "ours")[0].issuer == "http://127.0.0.1:8080/o"


@pytest.mark.parametrize(
    "value",
    [
        "https://id.example.com",
        "{}",
        '{"issuer": "https://id.example.com"}',
        '["https://id.example.com"]',
        "[{}]",
        '[{"issuer": ""}]',
        '[{"issuer": "http://id.example.com"}]',
        '[{"issuer": "https://id.example.com?x=1"}]',
        '[{"issuer": "https://me:secret@id.example.com"}]',
        '[{"issuer": "https://id.example.com", "audience": ["a"]}]',
        '[{"issuer": "https://id.example.com", "tenantClaim": "t"}]',
        '[{"issuer": "https://id.example.com"}, {"issuer": "https://id.example.com", "audience": "b"}]',
        "[" * 100_000,
    ],
)
def test_a_mistake_is_named_and_not_quoted(value: Any) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        Environment({"SERVICE_API_ISSUERS": value}).trusted_issuers("SERVICE_API_ISSUERS", "ours")
    assert str(caught.value).startswith("SERVICE_API_ISSUERS is a JSON list such as ")
    assert "secret" not in str(caught.value)

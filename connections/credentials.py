"""A connection's credentials as they are sent to us: checked against the auth type, secrets apart from facts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from external_apis import json_input
from external_apis.api_config import PLACEHOLDER, ApiConfig
from external_apis.errors import InvalidInput
from external_apis.time_input import bounded

ADDITIONAL_DATA = "additional_data"
_MAX_SECRET_LENGTH = 20_000
_OF_SEVERAL_LINES = frozenset({"private_key", "client_certificate", "client_key"})


@dataclass(frozen=True)
class CredentialInput:
    """``secrets`` are to be sealed (None removes one); ``facts`` are columns: token_type, expires_at, scopes."""

    secrets: Mapping[str, str | None] = field(repr=False)
    facts: Mapping[str, Any]


def read_credentials(data: Any, config: ApiConfig) -> CredentialInput:
    """Check credentials in the seed's plain keys against what the provider's auth type uses.

    Raises `InvalidInput` that names each field; no message repeats a value.
    """
    if not isinstance(data, Mapping):
        raise _invalid([("credentials", "is not an object")])
    json_input.check(data, "credentials")
    expected = config.credentials_expected()
    problems: list[tuple[str, str]] = []
    secrets: dict[str, str | None] = {}
    facts: dict[str, Any] = {}
    for name, value in data.items():
        path = f"credentials.{name}"
        if name in _FACT_READERS:
            try:
                facts[name] = _FACT_READERS[name](value)
            except ValueError as error:
                problems.append((path, str(error)))
        elif name == ADDITIONAL_DATA:
            secrets[name] = json.dumps(value, ensure_ascii=False) if value is not None else None
            if value is not None and not isinstance(value, dict):
                problems.append((path, "is not an object"))
        elif name not in expected:
            known = ", ".join(sorted(expected)) or "none"
            problems.append((path, f"is not used by auth type {config.auth_type} (it uses: {known})"))
        elif problem := _secret_problem(name, value):
            problems.append((path, problem))
        else:
            secrets[name] = value
    if problems:
        raise _invalid(problems)
    return CredentialInput(secrets=secrets, facts=facts)


def _secret_problem(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return "is not a string"
    # Some vendors take the key as the user name and nothing as the password.
    if (not value and name != "password") or len(value) > _MAX_SECRET_LENGTH:
        return "is empty or longer than 20,000 characters"
    if value == PLACEHOLDER:
        return "is the placeholder that stands for a stored secret, not a secret"
    # A private key is text of several lines; anything else goes into a header, a URL or a form field as it is.
    if name not in _OF_SEVERAL_LINES and ("\r" in value or "\n" in value):
        return "holds a line break, which can never be sent"
    return ""


def _token_type(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 50:
        raise ValueError("is not a string of at most 50 characters")
    return value


def _expires_at(value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        moment = value
    else:
        try:
            moment = parse_datetime(value) if isinstance(value, str) else None
        except ValueError:
            moment = None
        if moment is None:
            raise ValueError("is not a time such as 2026-01-15T10:30:00Z")
    if moment is None:
        return None
    # The seed's expires_at has no zone of its own: UTC.
    aware = timezone.make_aware(moment, UTC) if timezone.is_naive(moment) else moment
    return bounded(aware)


def _scopes(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) and 0 < len(item) <= 500 for item in value):
        raise ValueError("is not a list of strings")
    return value


_FACT_READERS = {"token_type": _token_type, "expires_at": _expires_at, "scopes": _scopes}


def _invalid(problems: list[tuple[str, str]]) -> InvalidInput:
    errors = [{"path": path[:200], "message": message} for path, message in problems]
    summary = "; ".join(f"{item['path']} {item['message']}" for item in errors[:5])
    return InvalidInput(f"Invalid credentials: {summary}", details={"errors": errors})

"""What somebody who connects an account is asked for: the parts of a provider's URLs, and its credentials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from external_apis import api_config
from external_apis.api_config import ApiConfig
from external_apis.errors import InvalidInput
from external_apis.models import ExternalApi
from external_apis.oauth_config import BY_CONSENT

__all__ = ["Question", "is_by_consent", "questions", "read_answers", "variables_asked"]

_ASKED: Mapping[str, tuple[str, ...]] = {
    "aws_sigv4": ("access_key_id", "secret_access_key", "session_token"),
    "basic": ("username", "password"),
    "bearer": ("access_token",),
    "client_credentials": ("client_id", "client_secret"),
    "jwt_bearer": ("private_key",),
    "oauth1": (),
    "oauth2": (),
}
"""Of auth types with credentials in several forms, or that are not typed in; all others ask for what they use."""

_OPTIONAL = frozenset({"password", "session_token"})
_SHOWN = frozenset({"access_key_id", "client_id", "username"})
_LONG = frozenset({"client_certificate", "client_key", "private_key"})
_LABELS: Mapping[str, str] = {"access_token": "Access token", "api_key": "API key", "hmac_secret": "Signing secret"}


@dataclass(frozen=True)
class Question:
    """One field of the form. ``kind`` is ``secret``, ``text`` or ``long`` (several lines)."""

    name: str
    label: str
    kind: str
    is_required: bool
    is_variable: bool = False


def is_by_consent(config: ApiConfig) -> bool:
    """Tell whether the provider's own page asks for consent (OAuth), rather than a form of ours for keys."""
    return config.auth_type in BY_CONSENT


def questions(api: ExternalApi, config: ApiConfig, known: Mapping[str, Any] | None = None) -> list[Question]:
    """Return what has to be asked; ``known`` is the ``provider_data`` of a connection that exists already."""
    names = dict.fromkeys(_ASKED.get(config.auth_type, config.own_credentials()))
    if not is_by_consent(config):
        names |= dict.fromkeys(sorted(config.credentials_expected() - set(config.own_credentials())))
    shared = {path.rpartition(".")[2] for path in api.fingerprints if path.partition(".")[0] in _SHARING}
    asked = [Question(name, _label(name), _kind(name), name not in _OPTIONAL) for name in names if name not in shared]
    return [*variables_asked(config, known or {}), *asked]


def variables_asked(config: ApiConfig, known: Mapping[str, Any]) -> list[Question]:
    """Return the URL variables that have no value yet."""
    return [
        Question(name, _label(name), "text", variable.default is None, is_variable=True)
        for name, variable in config.url_variables.items()
        if name not in known
    ]


def read_answers(
    asked: list[Question], posted: Mapping[str, str], config: ApiConfig, known: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the credentials that were typed in, and ``provider_data`` with the URL's parts added.

    White space around a value is taken as that of the clipboard. Raises `InvalidInput` that names the fields
    (``details["errors"]``) and repeats no value.
    """
    given = {question.name: posted.get(question.name, "").strip() for question in asked}
    missing = [question for question in asked if question.is_required and not given[question.name]]
    if missing:
        errors = [{"path": question.name, "message": "is needed"} for question in missing]
        names = ", ".join(question.label for question in missing)
        raise InvalidInput(f"Please fill in: {names}.", details={"errors": errors})
    variables = {question.name for question in asked if question.is_variable}
    provider_data = {**known, **{name: given[name] for name in variables if given[name]}}
    api_config.url_values(config, provider_data)
    secrets = {name: value for name, value in given.items() if name not in variables and (value or name == "password")}
    return secrets, provider_data


_SHARING = frozenset({"also", "api_key", "client_credentials", "jwt_bearer"})
"""The blocks in which a provider may keep one value for all of its connections."""


def _label(name: str) -> str:
    return _LABELS.get(name, name.replace("_", " ").capitalize())


def _kind(name: str) -> str:
    if name in _LONG:
        return "long"
    return "text" if name in _SHOWN else "secret"

"""A registered client, and everything that can be set about how the server treats it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from connections.sandbox.answers import Refusal

LIFE_SECONDS = 10**9
WAIT_SECONDS = 60.0
LIST_ITEMS = 50
TEXT_CHARACTERS = 4_000

AUTHORIZATION_CODE = "authorization_code"
REFRESH_TOKEN = "refresh_token"
CLIENT_CREDENTIALS = "client_credentials"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
GRANTS = (AUTHORIZATION_CODE, REFRESH_TOKEN, CLIENT_CREDENTIALS, DEVICE_CODE, JWT_BEARER)

FAILURES = (
    "status",  # failure_status with failure_error as JSON
    "error_200",  # the same with status 200
    "garbage",
    "html",
    "empty",
    "huge",
    "redirect",  # 307 to failure_location
    "close",
    "hang",
    "lost_close",  # the request takes effect, then the connection closes without an answer
    "lost_hang",  # the request takes effect, and the answer never comes
)
"""What the token endpoint can do instead of answering; the ``lost_`` ones happen after the request took effect."""


@dataclass
class Client:
    """One client and its settings; times are in seconds.

    ``client_secret`` None makes it a public client. OAuth 1.0a takes id and secret for the consumer's key and secret.
    """

    client_id: str
    client_secret: str | None = None
    authentication: list[str] = field(default_factory=lambda: ["basic", "body"])
    redirect_uris: list[str] = field(default_factory=list)
    grants: list[str] = field(default_factory=lambda: list(GRANTS))
    scopes: list[str] = field(default_factory=lambda: ["read", "write"])
    scope_parameter: str = "scope"
    granted_scopes: list[str] | None = None
    """What its user really grants; None grants whatever is asked for."""
    consent: str = "ask"
    """``ask`` shows the page; ``approve`` and ``deny`` decide at once; any other text is sent back as ``error``."""
    consent_description: str = ""
    pkce: str = "required"
    token_body: str = "form"
    iss: str = "own"
    rsa_key: dict[str, str] | None = None
    """The public key (JWK members ``n`` and ``e``, perhaps ``kid``) of JWT assertions and RSA-SHA1."""

    access_seconds: int = 150
    refresh_seconds: int = LIFE_SECONDS
    rotates: bool = True
    refresh_token: str = "always"
    """``first`` leaves it out of answers to refreshes, ``never`` gives none at all."""
    device_seconds: int = 600
    device_interval_seconds: int = 5

    answer_style: str = "plain"
    expiry_style: str = "seconds"
    scope_separator: str = " "
    shows_scope: bool = True

    delay_seconds: float = 0.0
    failure: str | None = None
    failures_left: int | None = None
    """How many more requests fail; None is all of them."""
    failure_status: int = 500
    failure_error: str = "temporarily_unavailable"
    failure_description: str = "As you asked"
    failure_location: str = ""
    retry_after: str | None = None

    counts: Counter[str] = field(default_factory=Counter)

    def take_failure(self) -> str | None:
        """The failure of the request at hand, counted down."""
        if self.failure is None or self.failures_left == 0:
            return None
        if self.failures_left is not None:
            self.failures_left -= 1
        return self.failure

    def choose_scopes(self, asked: str) -> list[str] | None:
        """The scopes granted for those asked for (none: all known ones); None when an unknown one is among them."""
        wanted = asked.replace(self.scope_separator, " ").split() or self.scopes
        if not set(wanted) <= set(self.scopes):
            return None
        return [scope for scope in wanted if self.granted_scopes is None or scope in self.granted_scopes]

    def describe(self) -> dict[str, Any]:
        """Everything but the secret."""
        shown = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "client_secret"}
        return {**shown, "is_public": self.client_secret is None}

    def change(self, wishes: dict[str, Any]) -> None:
        """Set what a test asks for, all of it or nothing.

        :raises Refusal: 400 for an unknown name or an impossible value.
        """
        for name, value in wishes.items():
            if name not in _CHECKS:
                raise Refusal(400, "unknown_setting", f"The settings are {', '.join(_CHECKS)}")
            if not _CHECKS[name](value):
                raise Refusal(400, "bad_setting", f"The value of {name} cannot be")
        for name, value in wishes.items():
            setattr(self, name, value)


Check = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= TEXT_CHARACTERS


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= LIST_ITEMS and all(map(_is_text, value))


def _is_key(value: Any) -> bool:
    return isinstance(value, dict) and {"n", "e"} <= set(value) <= {"n", "e", "kid", "kty", "alg", "use"}


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _one_of(*choices: str) -> Check:
    return lambda value: isinstance(value, str) and value in choices


def _some_of(*choices: str) -> Check:
    return lambda value: _is_list(value) and set(value) <= set(choices)


def _whole(highest: float, lowest: int = 0) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _is_wait(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= WAIT_SECONDS


_CHECKS: dict[str, Check] = {
    "client_secret": _or_none(_is_text),
    "authentication": _some_of("basic", "body"),
    "redirect_uris": _is_list,
    "grants": _some_of(*GRANTS),
    "scopes": _is_list,
    "scope_parameter": _is_text,
    "granted_scopes": _or_none(_is_list),
    "consent": _is_text,
    "consent_description": _is_text,
    "pkce": _one_of("required", "optional", "refused"),
    "token_body": _one_of("form", "json"),
    "iss": _one_of("own", "none", "wrong"),
    "rsa_key": _or_none(_is_key),
    "access_seconds": _whole(LIFE_SECONDS),
    "refresh_seconds": _whole(LIFE_SECONDS),
    "rotates": _is_flag,
    "refresh_token": _one_of("always", "first", "never"),
    "device_seconds": _whole(LIFE_SECONDS),
    "device_interval_seconds": _whole(600),
    "answer_style": _one_of("plain", "slack", "nested"),
    "expiry_style": _one_of("seconds", "text", "timestamp", "timestamp_text", "milliseconds", "date", "none"),
    "scope_separator": _one_of(" ", ","),
    "shows_scope": _is_flag,
    "delay_seconds": _is_wait,
    "failure": _or_none(_one_of(*FAILURES)),
    "failures_left": _or_none(_whole(LIFE_SECONDS)),
    "failure_status": _whole(599, 200),
    "failure_error": _is_text,
    "failure_description": _is_text,
    "failure_location": _is_text,
    "retry_after": _or_none(_is_text),
}

"""The device authorization grant (RFC 8628): a terminal shows a code, and asks until somebody has confirmed it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from secrets import token_urlsafe
from typing import Any

from django.utils import timezone

from connections.models import OAuthFlow
from connections.oauth.answers import clean, read_tokens
from connections.oauth.backends import Client
from connections.oauth.flows import Kept, digest
from connections.oauth.tokens import Tokens
from external_apis.api_config import OAuth2Config, url_values
from external_apis.database_connections import give_back_database_connections
from external_apis.errors import FlowRefused, GrantRefused, InvalidInput, TokenEndpointFailed
from external_apis.oauth_config import OAuth2
from external_apis.providers import open_config
from external_apis.url_rules import base_url_problem

__all__ = ["DeviceCode", "begin", "has_device_code", "wait"]

_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_USUAL_INTERVAL, _SLOWER, _LONGEST_INTERVAL = 5.0, 5.0, 60.0
_LONGEST_LIFE = 1_800.0
_REFUSALS = {
    "access_denied": ("It was denied at the provider.", "denied"),
    "expired_token": ("Nobody confirmed the code in time. Please begin again.", "expired"),
}


@dataclass(frozen=True, slots=True, repr=False)
class DeviceCode:
    """What is shown, and for how long; ``complete_uri`` has the code in it, where the provider gives one."""

    user_code: str
    verification_uri: str
    complete_uri: str
    interval_seconds: float
    expires_at: datetime


def has_device_code(flow_config: Any) -> bool:
    """Tell whether a provider's configuration names a device authorization endpoint."""
    return isinstance(flow_config, OAuth2Config) and flow_config.oauth2.device_authorization_url is not None


def begin(flow: OAuthFlow, provider_data: Mapping[str, Any], *, owner_id: str = "") -> DeviceCode:
    """Ask for a code and store the attempt. Raises `InvalidInput`, `GrantRefused`, `TokenEndpointFailed`."""
    block, variables = _block_of(flow, provider_data)
    client, now = Client(block, variables), timezone.now()
    give_back_database_connections()
    fields = client.ask(
        client.url(block.device_authorization_url or ""), {"scope": block.scope_separator.join(block.scopes)}, now
    )
    device_code, code = _read(fields, now)
    kept = Kept(dict(provider_data), owner_id)
    flow.kind, flow.requested_scopes = OAuthFlow.Kind.DEVICE_CODE, list(block.scopes)
    flow.state_digest = digest(f"device:{token_urlsafe(32)}")  # nobody calls back
    flow.secrets = {"device_code": device_code, "kept": kept.to_json()}
    flow.expires_at = code.expires_at
    flow.save()
    return code


def wait(
    flow: OAuthFlow, code: DeviceCode, *, sleep: Callable[[float], None], clock: Callable[[], datetime]
) -> tuple[Tokens, Kept]:
    """Ask at the provider's pace until there are tokens. Raises `FlowRefused` and `GrantRefused`.

    Asking too often makes it slower by five seconds each time; a failing network or server is asked again.
    """
    kept = Kept.from_json(flow.secrets["kept"])
    block, variables = _block_of(flow, kept.provider_data)
    device_code: str = flow.secrets["device_code"]
    interval = code.interval_seconds
    while clock() + timedelta(seconds=interval) < code.expires_at:
        give_back_database_connections()
        sleep(interval)
        try:
            tokens = _ask(Client(block, variables), block, device_code, clock())
        except TokenEndpointFailed as error:
            if error.error == "slow_down" or not error.error:
                interval = min(interval + _SLOWER, _LONGEST_INTERVAL)
        except GrantRefused as error:
            if error.error not in _REFUSALS:
                raise
            message, reason = _REFUSALS[error.error]
            raise FlowRefused(message, reason=reason) from None
        else:
            if tokens.scopes is None:
                tokens = replace(tokens, scopes=tuple(flow.requested_scopes))
            return tokens, kept
    message, reason = _REFUSALS["expired_token"]
    raise FlowRefused(message, reason=reason)


def _ask(client: Client, block: OAuth2, device_code: str, now: datetime) -> Tokens:
    fields = client.ask(client.url(block.token_url), {"grant_type": _GRANT, "device_code": device_code}, now)
    return read_tokens(fields, block, "The token endpoint", now)


def _block_of(flow: OAuthFlow, provider_data: Mapping[str, Any]) -> tuple[OAuth2, dict[str, str]]:
    config = open_config(flow.external_api).api_config
    if not isinstance(config, OAuth2Config) or config.oauth2.device_authorization_url is None:
        raise InvalidInput("The provider has no device_authorization_url.")
    return config.oauth2, url_values(config, provider_data)


def _read(fields: Mapping[str, Any], now: datetime) -> tuple[str, DeviceCode]:
    device_code, user_code, uri = (
        fields.get("device_code"),
        fields.get("user_code"),
        fields.get("verification_uri") or fields.get("verification_url"),  # Google's older name
    )
    if not all(isinstance(value, str) and 0 < len(value) <= 2_000 for value in (device_code, user_code, uri)):
        raise TokenEndpointFailed("The provider gave no device code.")
    if base_url_problem(str(uri).partition("?")[0], https_only=False):
        raise TokenEndpointFailed("The provider gave a verification address that is no URL.")
    complete = fields.get("verification_uri_complete")
    is_whole = isinstance(complete, str) and not base_url_problem(complete.partition("?")[0], https_only=False)
    life = _seconds(fields.get("expires_in"), _LONGEST_LIFE, _LONGEST_LIFE)
    return str(device_code), DeviceCode(
        user_code=clean(str(user_code), ()),
        verification_uri=_clean_uri(str(uri)),
        complete_uri=_clean_uri(str(complete)) if is_whole else "",
        interval_seconds=max(1.0, _seconds(fields.get("interval"), _USUAL_INTERVAL, _LONGEST_INTERVAL)),
        expires_at=now + timedelta(seconds=life),
    )


def _clean_uri(text: str) -> str:
    """Return an address fit for a terminal: without characters that would do something there."""
    return "".join(character for character in text if character.isprintable() and character.isascii())


def _seconds(value: Any, usual: float, longest: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return usual
    return min(number, longest) if number > 0 else usual

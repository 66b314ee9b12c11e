"""What a token endpoint's answer means: tokens, a definite no, or nothing that can be used.

Nothing in it is trusted: it may be HTML, nested without end, of other types than promised, or quote our own secrets.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from django.utils.dateparse import parse_datetime

from connections.oauth.tokens import Tokens
from connections.wire.json_paths import look_up
from connections.wire.retry_after import parse_retry_after
from external_apis import json_input
from external_apis.errors import ApiManagerError, GrantRefused, InvalidInput, TokenEndpointFailed

if TYPE_CHECKING:
    from external_apis.oauth_config import ClientCredentials, JwtBearer, OAuth2
    from external_apis.transport import Answer

    Block = OAuth2 | ClientCredentials | JwtBearer

__all__ = ["clean", "error_of", "fields_of", "read_answer", "read_expiry", "read_tokens"]

_REFUSALS = frozenset({
    "access_denied", "expired_token", "invalid_client", "invalid_grant", "invalid_request", "invalid_scope",
    "invalid_token", "unauthorized_client", "unsupported_grant_type",
})  # fmt: skip
_PASSING = frozenset({"authorization_pending", "server_error", "slow_down", "temporarily_unavailable"})
# What a gateway says when it does not know what became of a request that it had passed on.
_GATEWAYS_DOUBTS = frozenset({502, 504, 520, 524})
_LONGEST_TOKEN, _LONGEST_TEXT, _MOST_SCOPES = 20_000, 500, 500
_LONGEST_MESSAGE, _TELLING_LENGTH = 200, 4
_USUAL_LIFE = timedelta(hours=1)
_LONGEST_LIFE = timedelta(days=36_500)
_TOKEN = re.compile(r"[\x20-\x7e]+")
_ERROR_NAME = re.compile(r"[\w.:/-]{1,100}")
_LONG_WORD = re.compile(r"[\w.~+/=%-]{32,}")


def read_answer(answer: Answer, block: Block, url_name: str, secrets: Collection[str], now: datetime) -> dict[str, Any]:
    """Return the fields of a successful answer.

    Raises `GrantRefused` for a definite no, `TokenEndpointFailed` for everything else, a 200 that names an error among
    it. ``secrets`` are those that were sent, which no message repeats; ``url_name`` says who answered.
    """
    fields = fields_of(answer)
    error, explanation = error_of(fields, block.error_path)
    if answer.status == 200 and fields is not None and not error:
        return fields
    said = clean(f"{error}: {explanation}" if explanation else error, secrets)
    name = error if error == clean(error, secrets) and _ERROR_NAME.fullmatch(error) else ""
    message = f"{url_name} answered with status {answer.status}" + (f": {said}." if said else ".")
    is_client_error = 400 <= answer.status < 500 and answer.status not in (408, 425, 429)
    is_final = error in block.final_errors or (is_client_error and error == "invalid_grant")
    if is_final or (is_client_error and error and error not in _PASSING):
        raise GrantRefused(message, error=name, is_final=is_final)
    if answer.status == 200 and not error:
        message = f"{url_name} answered with something that is neither JSON nor a form."
    retry_after = parse_retry_after(answer.headers.get("Retry-After"), now.timestamp())
    raise TokenEndpointFailed(
        message,
        may_have_happened=answer.status in _GATEWAYS_DOUBTS,
        retry_after_seconds=retry_after,
        error=name,
        is_lasting=is_client_error and not error,
    )


def read_tokens(fields: Mapping[str, Any], block: Block, url_name: str, now: datetime) -> Tokens:
    """Read tokens where the provider's configuration says that they stand.

    Raises `TokenEndpointFailed` where there is no access token that a header could carry. An expiry that cannot be read
    loses no token: it then counts as an hour, the usual life, so that it is renewed rather too early.
    """
    access_token = _token(fields, block.access_token_path, url_name)
    if access_token is None:
        raise TokenEndpointFailed(f"{url_name} answered without an access token at {block.access_token_path}.")
    refresh_token = _token(fields, block.refresh_token_path, url_name)
    token_type = look_up(fields, block.token_type_path)
    return Tokens(
        access_token=access_token,
        refresh_token=refresh_token,
        token_type=clean(token_type, ())[:50] if isinstance(token_type, str) and token_type else "Bearer",
        expires_at=read_expiry(look_up(fields, block.expires_path), block, now),
        scopes=_scopes(look_up(fields, block.scope_path), block.scope_separator),
        provider_data=_kept(fields, block.kept_answer_fields, {access_token, refresh_token}),
    )


def read_expiry(value: Any, block: Block, now: datetime) -> datetime | None:
    """Return when a token expires, None for never. Zero and nothing both mean that the answer does not tell."""
    if value in (None, "", 0, "0", False):
        return now + timedelta(seconds=block.default_life_seconds) if block.default_life_seconds else None
    moment = _date(value) if block.expires_kind == "date" else _moment(value, block.expires_kind, now)
    # A new token that ended in the past is a mistake, or a clock's; taken at its word it would be renewed for ever.
    if moment is None or moment <= now:
        return now + (timedelta(seconds=block.default_life_seconds) if block.default_life_seconds else _USUAL_LIFE)
    return min(moment, now + _LONGEST_LIFE)


def fields_of(answer: Answer) -> dict[str, Any] | None:
    """Return the object that an answer's body holds, as JSON or as a form; None for anything else."""
    media_type = (answer.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if media_type in ("application/x-www-form-urlencoded", "text/plain") and not answer.body.lstrip().startswith(b"{"):
        return _form(answer.body)
    try:
        fields = json_input.load(answer.body)
    except InvalidInput:
        return None
    return fields if isinstance(fields, dict) else None


def error_of(fields: Mapping[str, Any] | None, error_path: str) -> tuple[str, str]:
    """Return the error that an answer names, and its explanation; both empty where it names none.

    Some give an object of type, code and message, and Slack's ``"ok": false`` is an error by itself.
    """
    found = look_up(fields, error_path)
    if isinstance(found, Mapping):
        name = next((str(found[key]) for key in ("type", "code", "status") if _is_plain(found.get(key))), "error")
        return name, _text(found.get("message"))
    if not found and fields is not None and fields.get("ok") is False:
        found = "error"
    name = str(found) if found and _is_plain(found) else "error" if found else ""
    explanation = next(
        (text for key in ("error_description", "message") if name and (text := _text((fields or {}).get(key)))), ""
    )
    return name, explanation


def clean(text: str, secrets: Collection[str]) -> str:
    """Return a provider's words fit for a page or a log: one bounded line without secrets or anything like a token."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text[:2_000]).split())
    if any(secret in line for secret in secrets if len(secret) >= _TELLING_LENGTH):
        return "(its words quote a secret)"
    return _LONG_WORD.sub("…", line)[:_LONGEST_MESSAGE]


# --- parts --------------------------------------------------------------------------------------------------------


def _token(fields: Mapping[str, Any], path: str, url_name: str) -> str | None:
    value = look_up(fields, path)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value in (None, ""):
        return None
    if not isinstance(value, str) or len(value) > _LONGEST_TOKEN or not _TOKEN.fullmatch(value):
        raise TokenEndpointFailed(f"{url_name} answered with something at {path} that is no token.")
    return value


def _scopes(value: Any, separator: str) -> tuple[str, ...] | None:
    if isinstance(value, str):
        value = re.split(rf"[\s,]+|{re.escape(separator)}", value)
    if not isinstance(value, list):
        return None
    named = dict.fromkeys(item for item in value if isinstance(item, str) and 0 < len(item) <= _LONGEST_TEXT)
    return tuple(named)[:_MOST_SCOPES]


def _kept(fields: Mapping[str, Any], paths: Mapping[str, str], tokens: Collection[str | None]) -> dict[str, str]:
    found = {name: look_up(fields, path) for name, path in paths.items()}
    return {
        name: str(value)[:_LONGEST_TEXT]
        for name, value in found.items()
        if _is_plain(value) and str(value) not in tokens
    }


def _moment(value: Any, kind: str, now: datetime) -> datetime | None:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
        if not math.isfinite(number) or number < 0:
            return None
        if kind == "seconds":
            return now + min(timedelta(seconds=min(number, _LONGEST_LIFE.total_seconds())), _LONGEST_LIFE)
        return datetime.fromtimestamp(number / 1000 if kind == "timestamp_ms" else number, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _date(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = parse_datetime(value) or parsedate_to_datetime(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, TypeError):
        return None


def _form(body: bytes) -> dict[str, Any] | None:
    try:
        fields = dict(parse_qsl(body.decode(), strict_parsing=True, max_num_fields=100))
        json_input.check(fields)
    except (ValueError, ApiManagerError):
        return None
    return fields


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""

"""An account of the old table as a connection: its name, owner, facts, and credentials ready to be sealed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from connections.credentials import ADDITIONAL_DATA, CredentialInput, read_credentials
from connections.imports.social_platforms.old_rows import NO_TIME, OldRow
from connections.imports.social_platforms.refusals import of_one_row, refused
from connections.models import ConnectionStatus
from external_apis.api_config import ApiConfig, url_values
from external_apis.time_input import bounded

__all__ = ["Account", "holds_tokens", "read_account"]

NO_REFRESH_TOKEN = "without refresh token: to be connected again when the token ends"  # noqa: S105
TO_BE_RENEWED = "the access token has ended: to be renewed at once with the refresh token"
CLOSED = "with secrets that do not open"
NO_CREDENTIAL = "without any credential"
SWITCHED_OFF = "switched off in the old system: imported as revoked, to be made active before use"
UNKNOWN_STATUS = "of a status that is unknown here: imported as error"

# Where tokens stand: in columns, in the seed's ``credentials``, or in a platform's own ``api_config``.
_PLACES = ("credentials.", "", "api_config.", "api_config.oauth1_credentials.", "provider_data.", "metadata.")
_SPELLINGS = {
    "access_token": ("access_token", "accessToken", "token", "page_access_token", "user_access_token"),
    "refresh_token": ("refresh_token", "refreshToken"),
    "oauth_token": ("oauth_token", "access_token", "accessToken"),
    "oauth_token_secret": ("oauth_token_secret", "access_token_secret", "token_secret", "accessTokenSecret"),
    "api_key": ("api_key", "apiKey", "key", "access_token"),
    "username": ("username",),
    "password": ("password",),
}
_OF_CREDENTIALS = frozenset({"expires_at", "token_type", "scope", "scopes", "expires_in", "retrieved_at"})
_STATUSES = {
    "": ConnectionStatus.ACTIVE,
    "active": ConnectionStatus.ACTIVE,
    "connected": ConnectionStatus.ACTIVE,
    "expired": ConnectionStatus.EXPIRED,
    "revoked": ConnectionStatus.REVOKED,
    "disconnected": ConnectionStatus.REVOKED,
    "error": ConnectionStatus.ERROR,
    "failed": ConnectionStatus.ERROR,
}
# Nobody may use what the old system had switched off; revoked is what keeps a connection from being used.
_SWITCHED_OFF = frozenset({"inactive", "disabled", "paused", "pending"})
_SECONDS = re.compile(r"[0-9]{1,9}")
_PAGE = ("page_id", "account_id", "external_id", "platform_account_id", "provider_account_id", "ig_user_id")
_COLUMNS_LEFT_OUT = frozenset({"id", "metadata", "provider_data", "credentials", "api_config"})


@dataclass(frozen=True)
class Account:
    """What becomes of one account. Its ``repr`` shows no secret."""

    name: str
    slug: str
    """One that is nobody else's, and always the same for an old row."""
    credentials: CredentialInput = field(repr=False)
    provider_data: Mapping[str, Any] = field(repr=False)
    status: ConnectionStatus
    error_message: str | None
    authenticated_at: datetime | None
    last_sync_at: datetime | None
    created_at: datetime | None
    page: str = ""
    """The page or account at the provider, where the row names one."""
    notes: tuple[str, ...] = ()


def holds_tokens(platform: OldRow) -> bool:
    """Tell whether a platform's row carries an account's tokens itself."""
    names = {name for spellings in _SPELLINGS.values() for name in spellings} - {"key", "api_key", "apiKey"}
    paths = (*platform.parted.secrets, *platform.parted.problems)
    return any(
        path.removeprefix("api_config.oauth1_credentials.").removeprefix("api_config.") in names for path in paths
    )


def _account_name(row: OldRow) -> str:
    """Return the name that people know an account by."""
    names = ("connection_name", "account_name", "display_name", "page_name", "name", "username", "handle")
    return " ".join(row.text(*names).split())[:200].strip() or row.id


@of_one_row
def read_account(row: OldRow, config: ApiConfig, now: datetime, origin: str) -> Account:
    """Return what an account's row of this source becomes at a provider of this configuration.

    Raises `InvalidInput` with the reason where it cannot be imported: secrets that do not open, no credential at all,
    times that are none, or URL variables that are missing.
    """
    if row.parted.problems:
        raise refused(CLOSED, "; ".join(f"{path} {problem}" for path, problem in row.parted.problems.items()))
    notes = list(row.parted.notes)
    credentials, expires_at = _credentials(row, config, notes)
    can_be_renewed = config.auth_type == "oauth2" and "refresh_token" in credentials.secrets
    has_ended = expires_at is not None and expires_at <= now
    status, error_message = _status(row, has_ended, can_be_renewed, notes)
    if status != ConnectionStatus.REVOKED and not credentials.secrets.keys() & config.credentials_expected():
        raise refused(NO_CREDENTIAL, f"holds no credential ({', '.join(sorted(config.credentials_expected()))})")
    provider_data = _provider_data(row)
    if config.url_variables:
        url_values(config, provider_data)
    return Account(
        name=_account_name(row),
        slug=_slug(row, origin),
        credentials=credentials,
        provider_data=provider_data,
        status=status,
        error_message=error_message,
        authenticated_at=row.moment("authenticated_at", "connected_at", "retrieved_at"),
        last_sync_at=row.moment("last_sync_at", "last_synced_at"),
        created_at=row.moment("created_at"),
        page=row.text(*_PAGE),
        notes=tuple(notes),
    )


def _credentials(row: OldRow, config: ApiConfig, notes: list[str]) -> tuple[CredentialInput, datetime | None]:
    """What the auth type uses goes under its names; every other secret is sealed as well, in ``additional_data``."""
    given: dict[str, Any] = {}
    left = dict(row.parted.secrets)
    for name in sorted(config.credentials_expected()):
        path = _path_of(name, left)
        if path is not None:
            given[name] = left.pop(path)
    if "username" in config.credentials_expected() and "username" not in given and (user := row.own_text("username")):
        given["username"] = user
    given_values = set(given.values())
    if left := {path: value for path, value in left.items() if value not in given_values}:
        given[ADDITIONAL_DATA] = left
    expires_at = _expires_at(row)
    given |= {"expires_at": expires_at, "token_type": row.own_text("token_type")[:50], "scopes": _scopes(row)}
    if config.auth_type == "oauth2" and "refresh_token" not in given:
        notes.append(NO_REFRESH_TOKEN)
    return read_credentials(given, config), expires_at


def _path_of(name: str, secrets: Mapping[str, str]) -> str | None:
    for spelling in _SPELLINGS.get(name, (name,)):
        for place in _PLACES:
            if f"{place}{spelling}" in secrets:
                return f"{place}{spelling}"
    return None


def _status(
    row: OldRow, has_ended: bool, can_be_renewed: bool, notes: list[str]
) -> tuple[ConnectionStatus, str | None]:
    """An ended token is no end where a refresh token is there: it is due for a renewal, as any other of ours."""
    said = row.column("status").lower() if row.table != "social_platform" else ""
    message = row.own_text("error_message", "last_error")[:2_000] or None
    if said in _SWITCHED_OFF or row.is_switched_off:
        notes.append(SWITCHED_OFF)
        return ConnectionStatus.REVOKED, message
    status = _STATUSES.get(said)
    if status is None:
        notes.append(UNKNOWN_STATUS)
        return ConnectionStatus.ERROR, message or f"Its status in the old system was {said[:40]!a}."
    if status == ConnectionStatus.REVOKED or not (has_ended or status == ConnectionStatus.EXPIRED):
        return status, message
    if can_be_renewed and has_ended:
        notes.append(TO_BE_RENEWED)
        return ConnectionStatus.ACTIVE, None
    return ConnectionStatus.EXPIRED, message


def _expires_at(row: OldRow) -> datetime | None:
    moment = row.moment("token_expires_at", "expires_at", "access_token_expires_at")
    # A number, or text as CSV has it.
    seconds, since = str(row.own("expires_in")).partition(".")[0], row.moment("retrieved_at", "authenticated_at")
    if moment is not None or since is None or not _SECONDS.fullmatch(seconds):
        return moment
    try:
        return bounded(since + timedelta(seconds=int(seconds)))
    except (OverflowError, ValueError):
        raise refused(NO_TIME, "expires_in leads to no time") from None


def _scopes(row: OldRow) -> list[str]:
    value = row.own("scopes", "scope")
    if isinstance(value, str):
        value = [part.strip('"') for part in re.split(r"[\s,]+", value.strip("{}[] "))]
    return [str(part)[:500] for part in value if part] if isinstance(value, list) else []


def _provider_data(row: OldRow) -> dict[str, Any]:
    """The provider's facts as they were (``page_id``, …), and below ``imported_from`` where and what it was."""
    own = row.plain.get("provider_data")
    data = dict(own) if isinstance(own, Mapping) else {}
    for name in ("page_id", "page_name", "ig_user_id", "account_id", "account_sid", "phone_number", "phone_number_id"):
        if value := row.text(name):
            data.setdefault(name, value)
    origin: dict[str, Any] = {"table": row.table, "id": row.id, "row": row.told(but=_COLUMNS_LEFT_OUT)}
    if row.table == "social_platform":
        origin["api_config"] = row.plain.get("api_config") or {}
    else:
        left = row.plain.get("credentials")
        if isinstance(left, Mapping):
            left = {name: value for name, value in left.items() if name not in _OF_CREDENTIALS}
        if left:
            origin["credentials"] = left
    if page := row.text(*_PAGE):
        origin["page"] = page
    if row.plain.get("metadata"):
        origin["metadata"] = row.plain["metadata"]
    if own and not isinstance(own, Mapping):
        origin["provider_data"] = own
    return {**data, "imported_from": origin}


def _slug(row: OldRow, origin: str) -> str:
    """One that is nobody else's, and always the same for a row of the same source."""
    readable = re.sub(r"[^a-z0-9]+", "-", _account_name(row).lower()).strip("-")[:60].strip("-") or "account"
    mark = hashlib.sha256(f"{origin} {row.source_key}".encode()).hexdigest()[:10]
    return f"{readable}-{mark}"

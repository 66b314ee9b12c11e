"""The values of a connection in another service: read from the server, or while it is away from a sealed copy."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from connections.remote.keeping import Keeping, Secrets
from connections.remote.sealed_copy import SealedCopy
from connections.remote.server import Server, reference_path
from connections.wire.arguments import refuse
from external_apis.errors import (
    ApiManagerError,
    BadAnswer,
    CallError,
    ConnectionUnusable,
    Forbidden,
    MissingCredential,
    NotAuthenticated,
    NotFound,
    RateLimited,
    ServiceUnavailable,
)

__all__ = ["pick", "read_secrets"]

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS, _PATIENCE_WITH_COPY_SECONDS = 90.0, 5.0
# In the order in which they are looked for where no name is given; what else there is goes with one of them.
_USUAL = ("access_token", "api_key", "secret", "password", "oauth_token")


def read_secrets(  # noqa: PLR0917
    server: Server,
    reference: str,
    min_valid_seconds: int = 60,
    environment: str | None = None,
    copy: SealedCopy | None = None,
    stale_if_error_seconds: float = 3600.0,
    timeout_seconds: float | None = None,
) -> Secrets:
    """Return a connection's values, asking for ``timeout_seconds`` at most (5 with a copy, else 90).

    With a ``copy`` each answer is kept in it, and while the server is away, or has no time, one that is at most
    ``stale_if_error_seconds`` old stands in for it, unless its token has ended; for some seconds after it was found
    away nobody whose copy stands in waits for it again. A definite refusal (no such connection, revoked, a key without
    the right) goes before that, and deletes the copy. Raises that refusal, or the error of the way to the server.
    """
    path = reference_path(reference, "credentials")
    params = {"min_valid": min_valid_seconds} | ({"environment": environment} if environment else {})
    patience = _PATIENCE_SECONDS if copy is None else _PATIENCE_WITH_COPY_SECONDS
    timeout_seconds = patience if timeout_seconds is None else _positive(timeout_seconds)
    if copy is None:
        return _ask(server, path, params, timeout_seconds)
    keeping = Keeping(copy, server.asker, reference, environment)
    if server.is_away and (kept := keeping.find(stale_if_error_seconds)) is not None:
        return kept
    asked_at = keeping.now()
    try:
        found = _ask(server, path, params, timeout_seconds)
    except ApiManagerError as error:
        if not _is_away(error):
            _bury(keeping, error)
            raise
        if isinstance(error, CallError) and not error.request_id:  # one that the server tells of has one
            server.note_absence()
        kept = keeping.find(stale_if_error_seconds)
        if kept is None:
            raise
        logger.warning("The credentials of %s come from the local copy (%s).", reference, error.code)
        return kept
    keeping.keep(found, asked_at)
    return found


def pick(secrets: Mapping[str, Any], name: str | None) -> str:
    """Return the value of a name, without one the only value or that of the usual name.

    An object comes as JSON. Raises `MissingCredential` that names what there is.
    """
    secrets = {key: value for key, value in secrets.items() if value is not None}
    if name is None:
        usual = list(secrets) if len(secrets) == 1 else [usual for usual in _USUAL if usual in secrets]
        name = usual[0] if usual else ""
    if name not in secrets:
        raise MissingCredential(f"There is no such value; the connection has: {', '.join(sorted(secrets))}.")
    value = secrets[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _ask(server: Server, path: str, params: Mapping[str, Any], timeout_seconds: float) -> Secrets:
    data = server.ask(path, params, timeout_seconds=timeout_seconds)
    texts = [data.get(name) for name in ("id", "name")]
    is_good = isinstance(data.get("credentials"), dict) and isinstance(data.get("expiresAt"), str | None)
    if not is_good or not all(isinstance(text, str) for text in texts):
        raise BadAnswer("The server's answer holds no credentials.")
    return Secrets(data["id"], data["name"], data["credentials"], data.get("expiresAt"))


def _is_away(error: ApiManagerError) -> bool:
    """Whether the error tells nothing of the connection: the server was not reached, or is not able to tell."""
    return isinstance(error, (CallError, RateLimited, ServiceUnavailable)) or error.status >= 500


def _bury(keeping: Keeping, error: ApiManagerError) -> None:
    """Keep nothing of what is over; a question that was wrong (400), or meant several (409), says nothing of that."""
    if isinstance(error, (NotFound, ConnectionUnusable)):
        connection_id = error.details.get("connection_id")
        keeping.bury(connection_id=connection_id if isinstance(connection_id, str) else None)
    elif isinstance(error, (NotAuthenticated, Forbidden)):
        keeping.bury(is_whole_key=True)


def _positive(seconds: Any) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= 86_400:
        raise refuse("timeout_seconds", "is not a number of seconds above 0 and up to a day")
    return float(seconds)

"""The values of a connection in another service: read from the server, or while it is away from a sealed copy."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from connections.remote.sealed_copy import SealedCopy
from connections.remote.server import Server, reference_path
from external_apis.errors import (
    ApiManagerError,
    BadAnswer,
    CallError,
    MissingCredential,
    RateLimited,
    ServiceUnavailable,
)

__all__ = ["pick", "read_secrets"]

logger = logging.getLogger(__name__)

# In the order in which they are looked for where no name is given; what else there is goes with one of them.
_USUAL = ("access_token", "api_key", "secret", "password", "oauth_token")


def read_secrets(  # noqa: PLR0917
    server: Server,
    reference: str,
    min_valid_seconds: int = 60,
    environment: str | None = None,
    copy: SealedCopy | None = None,
    stale_if_error_seconds: float = 3600.0,
) -> Mapping[str, Any]:
    """Return a connection's values by name.

    With a ``copy`` each answer is kept in it, and while the server is away, or has no time, one that is at most
    ``stale_if_error_seconds`` old stands in for it, unless its token has ended. A definite refusal (no such connection,
    revoked, a key without the right) goes before that, and deletes the copy. Raises that refusal, or the error of the
    way to the server.
    """
    path = reference_path(reference, "credentials")
    name = json.dumps([server.url, reference, environment])
    params = {"min_valid": min_valid_seconds} | ({"environment": environment} if environment else {})
    try:
        found = _checked(server.ask(path, params))
    except ApiManagerError as error:
        if copy is None:
            raise
        if not _is_away(error):
            _delete(copy, name)
            raise
        kept = copy.read(name, stale_if_error_seconds)
        if kept is None or _has_ended(kept):
            raise
        logger.warning("The credentials of %s come from the local copy (%s).", reference, error.code)
        return kept["credentials"]  # type: ignore[no-any-return]
    if copy is not None:
        _keep(copy, name, found)
    return found["credentials"]  # type: ignore[no-any-return]


def pick(secrets: Mapping[str, Any], name: str | None) -> str:
    """Return the value of a name, without one the only value or that of the usual name.

    An object comes as JSON. Raises `MissingCredential` that names what there is.
    """
    if name is None:
        usual = list(secrets) if len(secrets) == 1 else [usual for usual in _USUAL if usual in secrets]
        name = usual[0] if usual else ""
    if name not in secrets:
        raise MissingCredential(f"There is no such value; the connection has: {', '.join(sorted(secrets))}.")
    value = secrets[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _checked(data: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(data.get("credentials"), dict) or not isinstance(data.get("expiresAt"), str | None):
        raise BadAnswer("The server's answer holds no credentials.")
    return {"credentials": data["credentials"], "expiresAt": data["expiresAt"]}


def _is_away(error: ApiManagerError) -> bool:
    """Whether the error tells nothing of the connection: the server was not reached, or is not able to tell."""
    return isinstance(error, (CallError, RateLimited, ServiceUnavailable)) or error.status >= 500


def _has_ended(kept: Mapping[str, Any]) -> bool:
    if kept["expiresAt"] is None:
        return False
    try:
        return datetime.fromisoformat(kept["expiresAt"]).timestamp() <= time.time()
    except ValueError:
        return True


def _keep(copy: SealedCopy, name: str, found: dict[str, Any]) -> None:
    try:
        copy.write(name, found)
    except OSError as error:
        logger.warning("The local copy cannot be written (%s).", type(error).__name__)


def _delete(copy: SealedCopy, name: str) -> None:
    try:
        copy.delete(name)
    except OSError as error:
        logger.warning("The local copy cannot be deleted (%s).", type(error).__name__)

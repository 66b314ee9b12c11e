"""Fresh tokens for whoever asks: one renewal at a time for a connection, over all threads, processes and machines.

Whoever comes while somebody renews waits for that result; whoever asked before a renewal ended never causes another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime

from django.db import connection as database
from django.db import connections as databases
from django.utils import timezone

from connections import lookup
from connections.models import ConnectionStatus, ExternalApiConnection, Grant, GrantEvent, GrantState
from connections.oauth import grants
from connections.oauth.due import margin_begin
from connections.oauth.flights import Flights
from connections.oauth.leases import claim, is_over, release
from connections.oauth.recovery import recover
from connections.oauth.turns import run, take
from connections.opening import can_be_renewed, refresh_margin_seconds
from external_apis.database_connections import give_back_database_connections
from external_apis.errors import (
    ApiManagerError,
    ConnectionExpired,
    ConnectionRevoked,
    InvalidInput,
    NotFound,
    ServiceUnavailable,
    TokenEndpointFailed,
)
from external_apis.oauth_config import RENEWED
from external_apis.tenancy import EVERYTHING, Scope

__all__ = ["HOPELESS", "ensure_fresh", "fresh_until", "has_to_be_fresh", "refresh_token", "replace_token"]

_WAIT_SECONDS = 75.0
"""Longer than a lease: by then it has ended, one way or another."""
_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.02, 0.25

HOPELESS = (GrantState.ENDED, GrantState.NEEDS_REAUTHORIZATION)
"""States that only a new consent mends; the connection's ``error_message`` says why."""

_flights: Flights[tuple[ExternalApiConnection, Grant]] = Flights()

IsGood = Callable[[ExternalApiConnection, Grant], bool]
_Result = tuple[ExternalApiConnection, Grant]


def refresh_token(connection_id: str, *, cause: str = "manual", scope: Scope = EVERYTHING) -> ExternalApiConnection:
    """Renew a connection's access token now and return the connection as it is then (seed 000).

    An expired connection is just what it is for. Somebody's own wish (``manual``) waits for no back-off, and may try
    again what was given up as doubtful. Raises `NotFound`; `InvalidInput` for a connection that has nothing
    to renew; `ConnectionRevoked`; `ConnectionExpired` when the provider refuses the grant for good; and
    `TokenEndpointFailed` and other errors of a call when it did not answer: then the old token stays.
    """
    row = lookup.find(connection_id, scope)
    if row.external_api.auth_type not in RENEWED:
        raise InvalidInput("Token refresh only supported for OAuth 2.0")
    if row.status == ConnectionStatus.REVOKED:
        raise ConnectionRevoked("Connection has been revoked. Please re-authenticate.")
    if not can_be_renewed(row):
        raise InvalidInput("No refresh token available")
    asked_at = timezone.now()
    return _renewed(row.pk, cause, lambda _, grant: grant.renewed_at is not None and grant.renewed_at > asked_at)


def has_to_be_fresh(row: ExternalApiConnection, now: datetime | None = None, *, min_valid_seconds: float = 0) -> bool:
    """Tell whether a loaded connection's access token is missing, marked expired, or inside its margin. No query.

    ``min_valid_seconds`` makes the margin as long as that, where the provider's own is shorter.
    """
    if row.external_api.auth_type not in RENEWED or not can_be_renewed(row):
        return False
    if "access_token" not in row.credential.secrets or row.status == ConnectionStatus.EXPIRED:
        return True
    from_then_on = fresh_until(row, min_valid_seconds=min_valid_seconds)
    return from_then_on is not None and (now or timezone.now()) >= from_then_on


def fresh_until(row: ExternalApiConnection, *, min_valid_seconds: float = 0) -> datetime | None:
    """Return when a renewable connection's access token enters its margin; None for one without end."""
    credential = row.credential
    margin_seconds = max(refresh_margin_seconds(row.external_api), min_valid_seconds)
    return credential.expires_at and margin_begin(credential.expires_at, credential.updated_at, margin_seconds)


def ensure_fresh(
    row: ExternalApiConnection, *, cause: str = "use", min_valid_seconds: float = 0
) -> ExternalApiConnection:
    """Return the connection with a token that may be used: the loaded row itself, or one with a renewed token.

    A token inside its margin, or with less than ``min_valid_seconds`` left (of a short-lived one at most half its
    life), is renewed first. While that fails for the moment, a token that lives is used. Raises as
    `refresh_token` does where none does.
    """

    def is_good(now: ExternalApiConnection, _: Grant | None = None) -> bool:
        return not has_to_be_fresh(now, min_valid_seconds=min_valid_seconds)

    if is_good(row):
        return row
    lives = "access_token" in row.credential.secrets and not _has_ended(row)
    try:
        return _renewed(row.pk, cause, is_good)
    except ApiManagerError as error:
        has_ended = isinstance(error, ConnectionRevoked) or row.status == ConnectionStatus.EXPIRED
        if lives and not has_ended:
            return row
        raise


def replace_token(connection_id: str, refused: str) -> ExternalApiConnection:
    """Return the connection with another access token than ``refused``, which its API did not take; raises as above."""
    return _renewed(
        connection_id,
        "unauthorized",
        lambda now, _: now.credential.secrets.get("access_token") not in (None, refused),
    )


def _renewed(connection_id: str, cause: str, is_good: IsGood) -> ExternalApiConnection:
    def work() -> _Result:
        return _lead(connection_id, cause, is_good)

    def join() -> ExternalApiConnection:
        try:
            row, grant = _flights.join(connection_id, work, _WAIT_SECONDS)
            # A flight that was joined may have been content with what this caller is not.
            return row if is_good(row, grant) else _flights.join(connection_id, work, _WAIT_SECONDS)[0]
        except TimeoutError:
            raise ServiceUnavailable("Another thread renews the token and takes too long.") from None

    if database.in_atomic_block:
        # New tokens may not go with somebody's transaction, nor may it hold the lease's row: they get one of their own.
        return _apart(join)
    give_back_database_connections()
    return join()


def _lead(connection_id: str, cause: str, is_good: IsGood) -> _Result:
    row, grant = _load(connection_id)
    renewed_at, failures, until = grant.renewed_at, grant.failures, time.monotonic() + _WAIT_SECONDS
    while not is_good(row, grant):
        if cause != "manual" or grant.state != GrantState.NEEDS_REAUTHORIZATION:
            _refuse_hopeless(row, grant)
        if cause != "manual" and _is_backing_off(grant):
            raise _last_failure(row, grant)
        if grant.leased_until is not None and grant.leased_until < timezone.now():
            recover()
        leases = take(lambda: [lease] if (lease := claim(connection_id)) else [], cause)
        if leases and leases[0].renewed_at == grant.renewed_at:
            settlements = run(leases, cause)
            row, grant = _load(connection_id)
            _refuse_hopeless(row, grant)
            if settlements and (error := settlements[0].error) is not None:
                raise error
            if settlements or grant.renewed_at != renewed_at:
                return row, grant
        else:
            # Somebody else was quicker, and is perhaps through already.
            release(leases)
        _wait_for_turn(connection_id, until)
        row, grant = _load(connection_id)
        if grant.renewed_at != renewed_at:
            break
        if grant.failures > failures:
            raise _last_failure(row, grant)
    return row, grant


def _wait_for_turn(connection_id: str, until: float) -> None:
    """Wait until whoever has the lease is through. Raises `ServiceUnavailable` where that takes longer than a lease."""
    pause, fence = _POLL_SECONDS, None
    while True:
        grant = Grant.objects.only("fence", "leased_until").get(pk=connection_id)
        fence = grant.fence if fence is None else fence
        if is_over(grant, fence, timezone.now()):
            return
        if time.monotonic() > until:
            raise ServiceUnavailable("Another process renews the token and takes too long.")
        give_back_database_connections()
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_POLL_SECONDS)


def _load(connection_id: str) -> _Result:
    row = lookup.live().select_related("external_api", "credential", "tenant", "grant").filter(pk=connection_id).first()
    if row is None:
        raise NotFound(f"Connection {connection_id} not found")
    return row, grants.of(row)


def _refuse_hopeless(row: ExternalApiConnection, grant: Grant) -> None:
    if row.status == ConnectionStatus.REVOKED:
        raise ConnectionRevoked("Connection has been revoked. Please re-authenticate.")
    if grant.state in HOPELESS:
        raise ConnectionExpired(f"Connection has expired. Please re-authenticate. {row.error_message or ''}".strip())


def _is_backing_off(grant: Grant) -> bool:
    """Whether the last attempt failed so lately that use alone makes no other one."""
    return grant.failures > 0 and grant.due_at is not None and grant.due_at > timezone.now()


def _last_failure(row: ExternalApiConnection, grant: Grant) -> TokenEndpointFailed:
    event = GrantEvent.objects.filter(connection=row, outcome__in=("failed", "pending")).first()
    seconds = (grant.due_at - timezone.now()).total_seconds() if grant.due_at else None
    return TokenEndpointFailed(
        event.message if event else "The token could not be renewed.",
        retry_after_seconds=max(seconds, 0.0) if seconds is not None else None,
    )


def _has_ended(row: ExternalApiConnection) -> bool:
    expires_at = row.credential.expires_at
    return row.status == ConnectionStatus.EXPIRED or (expires_at is not None and expires_at <= timezone.now())


def _apart(work: Callable[[], ExternalApiConnection]) -> ExternalApiConnection:
    """Do it in a thread, which has database connections of its own. Rows of this transaction are not there yet."""
    results: list[ExternalApiConnection] = []
    errors: list[BaseException] = []

    def carry() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            databases.close_all()

    thread = threading.Thread(target=carry, name="refresh")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]

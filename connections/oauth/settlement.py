"""What an attempt at renewal means for a grant: decided from values alone, stored elsewhere.

A renewal that may or may not have happened matters where the provider gives a new refresh token each time: the old one,
sent again, may then revoke the whole family (RFC 9700, section 4.14.2). It is sent once more, openly, and never again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING

from connections.models import ConnectionStatus, GrantState
from connections.oauth.due import back_off, renewal_time
from connections.oauth.events import INCIDENTS
from connections.opening import DEFAULT_MARGIN_SECONDS
from external_apis.errors import ApiManagerError, GrantRefused

if TYPE_CHECKING:
    from connections.oauth.leases import Lease
    from connections.oauth.tokens import Tokens

__all__ = ["Facts", "Finding", "Settlement", "settle"]

_PAUSE_OF_INACTIVE = timedelta(hours=1)


class Finding(Enum):
    """What was found out about a leased grant without asking the provider."""

    NOTHING_TO_RENEW = auto()
    """There is nothing that an access token could be renewed with: it is warned of and ends on time."""
    GIVEN_UP = auto()
    """Twice a renewal may or may not have happened."""
    INACTIVE = auto()
    """Provider or tenant are switched off for now."""
    NOT_SENT = auto()
    """There was no time left to ask."""
    GONE = auto()
    """The connection or its provider was deleted, or it was revoked."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the stored tokens. ``sent_refresh_token`` is what an attempt uses up."""

    expires_at: datetime | None
    status: str
    margin_seconds: float = DEFAULT_MARGIN_SECONDS
    sent_refresh_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is to be stored when a lease ends. ``status`` None leaves the connection as it is, an empty ``kind`` is no
    event; ``tokens`` are new ones. ``error`` is what whoever waits for the token is told."""

    lease: Lease
    state: str
    due_at: datetime | None
    failures: int
    rotates: bool | None
    renewed_at: datetime | None
    incident: str
    status: str | None = None
    error_message: str | None = None
    kind: str = ""
    outcome: str = ""
    message: str = ""
    mail_due: bool = False
    tokens: Tokens | None = field(default=None, repr=False)
    error: ApiManagerError | None = None


def settle(lease: Lease, facts: Facts, answer: Tokens | ApiManagerError | Finding, now: datetime) -> Settlement:
    """Decide what becomes of a grant whose holder got ``answer``, which may be an error of the token endpoint."""
    same = Settlement(
        lease, lease.state, None, lease.failures, lease.rotates, lease.renewed_at, lease.incident, message=""
    )
    if isinstance(answer, Finding):
        return _FINDINGS[answer](same, facts, now)
    if isinstance(answer, GrantRefused):
        return _refused(same, facts, answer, now)
    if isinstance(answer, ApiManagerError):
        return _failed(same, facts, answer, now)
    return _renewed(same, facts, answer, now)


def _renewed(same: Settlement, facts: Facts, tokens: Tokens, now: datetime) -> Settlement:
    expires_at, rotates = tokens.expires_at, same.rotates
    if facts.sent_refresh_token is not None and not rotates:
        # Seen once, it counts for good: a provider may hand out the same one for a while and another one later.
        rotates = tokens.refresh_token not in (None, facts.sent_refresh_token)
    was_troubled = same.state != GrantState.GOOD or same.incident != ""
    return replace(
        same,
        state=GrantState.GOOD,
        due_at=renewal_time(same.lease.connection_id, expires_at, now, facts.margin_seconds) if expires_at else None,
        failures=0,
        rotates=rotates,
        renewed_at=now,
        incident="",
        status=ConnectionStatus.ACTIVE if facts.status != ConnectionStatus.ACTIVE else None,
        kind="restored" if was_troubled else "refreshed",
        outcome="succeeded",
        tokens=tokens,
    )


def _refused(same: Settlement, facts: Facts, error: GrantRefused, now: datetime) -> Settlement:
    if not error.is_final:
        # The client is refused, not the grant: a corrected configuration brings it back.
        failed = _failed(same, facts, error, now)
        return replace(failed, status=ConnectionStatus.ERROR, error_message=error.message)
    doubt = "An earlier renewal may have been lost. " if same.state != GrantState.GOOD else ""
    return _ended(same, f"{doubt}{error.message}", error)


def _failed(same: Settlement, facts: Facts, error: ApiManagerError, now: datetime) -> Settlement:
    failures = min(same.failures + 1, 32_000)
    retry_after = getattr(error, "retry_after_seconds", None)
    due_at = back_off(same.lease.connection_id, failures, now, facts.expires_at, retry_after)
    failed = replace(
        same, due_at=due_at, failures=failures, kind="refresh_failed", outcome="failed", message=error.message
    )
    failed = replace(failed, error=error)
    is_in_doubt = getattr(error, "may_have_happened", False) and facts.sent_refresh_token is not None
    if not is_in_doubt or same.rotates is False:
        return failed
    if same.state == GrantState.IN_DOUBT:
        return _given_up(replace(failed, message=error.message), facts, now)
    return _noted(replace(failed, state=GrantState.IN_DOUBT), "in_doubt", "pending", error.message)


def _nothing_to_renew(same: Settlement, facts: Facts, now: datetime) -> Settlement:
    if facts.expires_at is None:
        return replace(same, due_at=None)
    if facts.expires_at <= now:
        return _ended(same, "The access token has expired and nothing can renew it.", None)
    if same.incident == "expiring_soon":
        return replace(same, due_at=facts.expires_at)
    message = f"The access token ends at {facts.expires_at:%Y-%m-%d %H:%M} UTC and nothing can renew it."
    return _noted(replace(same, due_at=facts.expires_at), "expiring_soon", "pending", message)


def _given_up(same: Settlement, facts: Facts, now: datetime) -> Settlement:
    message = "It is unknown whether the provider renewed the grant, and asking again may revoke it. Please reconnect."
    if facts.expires_at is None or facts.expires_at <= now:
        return _ended(same, message, same.error)
    if same.state == GrantState.NEEDS_REAUTHORIZATION and same.incident == "needs_reauthorization":
        return replace(same, due_at=facts.expires_at)
    given_up = replace(
        same,
        state=GrantState.NEEDS_REAUTHORIZATION,
        due_at=facts.expires_at,
        status=ConnectionStatus.ERROR,
        error_message=message,
    )
    return _noted(given_up, "needs_reauthorization", "failed", message)


def _inactive(same: Settlement, facts: Facts, now: datetime) -> Settlement:
    return replace(same, due_at=now + _PAUSE_OF_INACTIVE)


def _not_sent(same: Settlement, facts: Facts, now: datetime) -> Settlement:
    return replace(same, due_at=now)


def _gone(same: Settlement, facts: Facts, now: datetime) -> Settlement:
    return replace(same, due_at=None)


def _ended(same: Settlement, message: str, error: ApiManagerError | None) -> Settlement:
    ended = replace(
        same,
        state=GrantState.ENDED,
        due_at=None,
        status=ConnectionStatus.EXPIRED,
        error_message=message,
        error=error,
    )
    return _noted(ended, "expired", "failed", message)


def _noted(changed: Settlement, kind: str, outcome: str, message: str) -> Settlement:
    """Name the event, and have it mailed unless the owner was told of that already."""
    is_news = kind in INCIDENTS and changed.incident != kind
    return replace(changed, kind=kind, outcome=outcome, message=message, incident=kind, mail_due=is_news)


_FINDINGS = {
    Finding.NOTHING_TO_RENEW: _nothing_to_renew,
    Finding.GIVEN_UP: _given_up,
    Finding.INACTIVE: _inactive,
    Finding.NOT_SENT: _not_sent,
    Finding.GONE: _gone,
}

"""What an attempt at renewal means for a grant: decided from values alone, stored elsewhere.

A renewal that may have happened without our knowing matters where the provider gives a new refresh token each time: the
old one, sent again, may then revoke the whole family (RFC 9700, section 4.14.2). What an attempt with a refresh token
came to is one of

- happened: tokens came, or a final refusal (``invalid_grant``): that is the end of the grant;
- did not happen: nothing was sent, or the endpoint itself answered something else, a 503 or a 429 among it;
- may have happened: time-outs, broken connections, and a gateway's 502 or 504.

| state | did not happen | may have happened, known to rotate | may have happened, not known | lease ran out |
| good | good, back-off | in_doubt, five minutes at least | in_doubt, back-off | in_doubt, and tried at once |
| in_doubt | in_doubt, back-off | needs_reauthorization | in_doubt, back-off | needs_reauthorization where known |
| needs_reauthorization | only a person tries: the same | the same | - | the same |

Where it is known not to rotate, or no refresh token is sent, all that may have happened did not. So in doubt the old
token comes to be used up at most once more, however often the endpoint says that it cannot do it now. Tokens always
bring a grant back to good; an access token's end alone makes a connection ``expired`` only where nothing is tried
any more. A grant that goes on failing says so (``renewal_failing``): the connection is in ``error`` from a lasting
refusal on, or from the end of its access token, or from the eighth failure in a row, until a renewal succeeds.
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
from external_apis.errors import ApiManagerError, BadAnswer, GrantRefused, TokenEndpointFailed

if TYPE_CHECKING:
    from connections.oauth.leases import Lease
    from connections.oauth.tokens import Tokens

__all__ = ["Facts", "Finding", "Settlement", "settle"]

_PAUSE_OF_INACTIVE = timedelta(hours=1)
_PAUSE_OF_DOUBT = timedelta(minutes=5)
"""Before the one attempt that a doubt leaves: a provider that did not answer may do so by then."""
_MANY_FAILURES = 8
"""About an hour of them."""
_FAILURES_BEFORE_PAUSE_OF_SILENT = 2


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
    SILENT = auto()
    """Others wait for the same token endpoint in vain: it is left in peace for a moment."""
    GONE = auto()
    """The connection or its provider was deleted, or it was revoked."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the stored tokens. ``sent_refresh_token`` is what an attempt uses up; ``rotates`` is what the
    provider's configuration says of that, if it says anything."""

    expires_at: datetime | None
    status: str
    margin_seconds: float = DEFAULT_MARGIN_SECONDS
    sent_refresh_token: str | None = field(default=None, repr=False)
    rotates: bool | None = None

    def has_ended(self, now: datetime) -> bool:
        """Tell whether the access token is over."""
        return self.expires_at is not None and self.expires_at <= now


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
    failing_since: datetime | None
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
        lease,
        lease.state,
        None,
        lease.failures,
        lease.rotates if facts.rotates is None else facts.rotates,
        lease.renewed_at,
        lease.incident,
        lease.failing_since,
    )
    if isinstance(answer, Finding):
        return _FINDINGS[answer](same, facts, now)
    if isinstance(answer, GrantRefused) and answer.is_final:
        doubt = "An earlier renewal may have been lost. " if same.state != GrantState.GOOD else ""
        return _ended(same, f"{doubt}{answer.message}", answer)
    if isinstance(answer, ApiManagerError):
        return _failed(same, facts, answer, now)
    return _renewed(same, facts, answer, now)


def _renewed(same: Settlement, facts: Facts, tokens: Tokens, now: datetime) -> Settlement:
    expires_at, rotates = tokens.expires_at, same.rotates
    if facts.rotates is None and facts.sent_refresh_token is not None and not rotates:
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
        failing_since=None,
        status=ConnectionStatus.ACTIVE if facts.status != ConnectionStatus.ACTIVE else None,
        kind="restored" if was_troubled else "refreshed",
        outcome="succeeded",
        tokens=tokens,
    )


def _failed(same: Settlement, facts: Facts, error: ApiManagerError, now: datetime) -> Settlement:
    failures = min(same.failures + 1, 32_000)
    retry_after = getattr(error, "retry_after_seconds", None)
    failed = replace(
        same,
        due_at=back_off(same.lease.connection_id, failures, now, facts.expires_at, retry_after),
        failures=failures,
        failing_since=same.failing_since or now,
        kind="refresh_failed",
        outcome="failed",
        message=error.message,
        error=error,
    )
    if same.state == GrantState.NEEDS_REAUTHORIZATION:
        return replace(failed, due_at=None if facts.has_ended(now) else facts.expires_at)
    may_have_happened = getattr(error, "may_have_happened", False) and facts.sent_refresh_token is not None
    if may_have_happened and same.rotates is not False:
        if same.rotates and same.state == GrantState.IN_DOUBT:
            return _given_up(failed, facts, now)
        failed = _doubted(failed, now)
    return _told_if_lasting(failed, facts, error, now)


def _doubted(failed: Settlement, now: datetime) -> Settlement:
    doubted = replace(failed, state=GrantState.IN_DOUBT)
    if failed.rotates and failed.due_at is not None:
        doubted = replace(doubted, due_at=max(failed.due_at, now + _PAUSE_OF_DOUBT))
    # Whoever was told that it goes on failing is not told of one failure of these by a name of its own.
    is_new = failed.state != GrantState.IN_DOUBT and failed.incident != "renewal_failing"
    return _noted(doubted, "in_doubt", "pending", failed.message) if is_new else doubted


def _told_if_lasting(failed: Settlement, facts: Facts, error: ApiManagerError, now: datetime) -> Settlement:
    """Say what goes on failing where it begins to hurt, or where repeating it does not help."""
    passes = isinstance(error, TokenEndpointFailed | BadAnswer) and not getattr(error, "is_lasting", False)
    if passes and failed.failures < _MANY_FAILURES and not facts.has_ended(now):
        return failed
    since = failed.failing_since or now
    message = (
        f"No renewal has succeeded since {since:%Y-%m-%d %H:%M} UTC. {error.message} It is tried again until one does, "
        "and the connection is active again by that."
    )
    status = ConnectionStatus.ERROR if facts.status != ConnectionStatus.EXPIRED else None
    told = replace(failed, status=status, error_message=message)
    if failed.incident == "renewal_failing":
        return told
    return _noted(told, "renewal_failing", "failed", message)


def _nothing_to_renew(same: Settlement, facts: Facts, now: datetime) -> Settlement:
    if facts.expires_at is None:
        return replace(same, due_at=None)
    if facts.has_ended(now):
        return _ended(same, "The access token has expired and nothing can renew it.", None)
    if same.incident == "expiring_soon":
        return replace(same, due_at=facts.expires_at)
    message = f"The access token ends at {facts.expires_at:%Y-%m-%d %H:%M} UTC and nothing can renew it."
    return _noted(replace(same, due_at=facts.expires_at), "expiring_soon", "pending", message)


def _given_up(same: Settlement, facts: Facts, now: datetime) -> Settlement:
    message = "It is unknown whether the provider renewed the grant, and asking again may revoke it. Please reconnect."
    has_ended = facts.has_ended(now)
    given_up = replace(
        same,
        state=GrantState.NEEDS_REAUTHORIZATION,
        due_at=None if has_ended else facts.expires_at,
        status=ConnectionStatus.EXPIRED if has_ended else ConnectionStatus.ERROR,
        error_message=message,
    )
    if same.incident != "needs_reauthorization":
        return _noted(given_up, "needs_reauthorization", "failed", message)
    return _noted(given_up, "expired", "failed", message) if has_ended else replace(given_up, kind="", status=None)


def _inactive(same: Settlement, facts: Facts, now: datetime) -> Settlement:
    paused = replace(same, due_at=now + _PAUSE_OF_INACTIVE)
    message = "The provider or the tenant is switched off: no token is renewed until it is switched on again."
    if facts.has_ended(now) and facts.status == ConnectionStatus.ACTIVE:
        paused = replace(paused, status=ConnectionStatus.ERROR, error_message=message)
    return paused if same.incident == "renewal_paused" else _noted(paused, "renewal_paused", "pending", message)


def _not_sent(same: Settlement, facts: Facts, now: datetime) -> Settlement:
    return replace(same, due_at=now)


def _silent(same: Settlement, facts: Facts, now: datetime) -> Settlement:
    due_at = back_off(same.lease.connection_id, _FAILURES_BEFORE_PAUSE_OF_SILENT, now, facts.expires_at, None)
    error = TokenEndpointFailed("The token endpoint has not answered others in time and was not asked.")
    return _told_if_lasting(replace(same, due_at=due_at), facts, error, now)


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
    Finding.SILENT: _silent,
    Finding.GONE: _gone,
}

"""Answers that come when their turn is over: it ran out, was taken away, or ended with the process that had it.

An answer has a number, its turn's. It is stored if and only if nothing newer is stored: its number is higher than the
row's ``stored_fence``, and the refresh token that it was got with is still the stored one (or the turn still stands).
Storing it raises ``stored_fence`` above it, so it is stored once, however many files it lies in and however many
processes find it. Whoever replaces the refresh token by hand raises ``stored_fence`` as well, and thereby supersedes
all turns before; whoever changes something else does not.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Literal

import structlog
from django.db import InterfaceError, OperationalError, transaction
from django.utils import timezone

from connections.models import ConnectionStatus, ExternalApiConnection, ExternalApiCredential, Grant
from connections.oauth.commits import commit
from connections.oauth.leases import LEASE, Lease, hold
from connections.oauth.settlement import Facts, settle
from connections.oauth.spool import Entry
from connections.oauth.tokens import Tokens
from connections.opening import refresh_margin_seconds, rotates_refresh_tokens
from external_apis.data_keys import key_of
from external_apis.errors import UnknownKey, VaultError

__all__ = ["Verdict", "adopt", "consumed", "try_to_adopt"]

log = structlog.get_logger(__name__)

Verdict = Literal["applied", "dropped", "kept"]
"""Stored now; of no use any more; or to be tried again."""

# Earlier than a lease is free to others: what it left behind comes before a claim that would doubt it.
_HEAD_START = timedelta(seconds=15)


def consumed(refresh_token: str | None) -> str:
    """Name a refresh token that was sent, without telling it; the name is kept sealed."""
    return sha256((refresh_token or "").encode()).hexdigest()


def adopt(entry: Entry, cause: str, *, is_left: bool = False) -> Verdict:
    """Store a late answer if nothing newer is stored; ``is_left`` tells that its holder is dead.

    Raises Django's database errors.
    """
    now = timezone.now()
    with transaction.atomic():
        rows = ExternalApiConnection.objects.select_for_update(of=("self",), no_key=True).select_related("external_api")
        row = rows.filter(pk=entry.connection_id).first()
        grant = Grant.objects.select_for_update().filter(pk=entry.connection_id).first()
        credential = ExternalApiCredential.objects.select_for_update().filter(pk=entry.connection_id).first()
        if row is None or grant is None or credential is None or row.status == ConnectionStatus.REVOKED:
            return "dropped"
        if entry.fence <= grant.stored_fence:
            return "dropped"
        if _is_busy(grant, entry, now, is_left=is_left):
            return "kept"
        try:
            content = json.loads(entry.open(key_of(entry.sealed)))
            stored = credential.secrets.get("refresh_token")
        except UnknownKey as error:
            log.error("a spooled answer does not open", connection_id=row.pk, reason=error.code)  # noqa: TRY400
            hold(entry.connection_id, entry.fence)
            return "kept"
        except VaultError as error:  # damaged, or the keys of its tenant were destroyed with all that it had
            log.error("a spooled answer was dropped", connection_id=row.pk, reason=error.code)  # noqa: TRY400
            return "dropped"
        stands = grant.fence == entry.fence and grant.leased_until is not None
        if not stands and (stored is None or consumed(stored) != content["consumed"]):
            return "dropped"
        api = row.external_api
        facts = Facts(
            credential.expires_at, row.status, refresh_margin_seconds(api), stored, rotates_refresh_tokens(api)
        )
        commit([settle(_take_over(grant), facts, Tokens.from_json(content["tokens"]), now)], cause)
    return "applied"


def try_to_adopt(entry: Entry, cause: str, *, is_left: bool = False) -> Verdict:
    """The same, where one answer may not stand in the way of others: one that cannot be stored keeps its lease.

    Raises Django's errors of a database that is away.
    """
    try:
        return adopt(entry, cause, is_left=is_left)
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        log.exception("a spooled answer could not be stored", connection_id=entry.connection_id)
        hold(entry.connection_id, entry.fence)
        return "kept"


def _is_busy(grant: Grant, entry: Entry, now: datetime, *, is_left: bool) -> bool:
    """Whether somebody who lives has the grant: the writer of the answer itself, or who came after."""
    if grant.leased_until is None or grant.leased_until < now + _HEAD_START:
        return False
    return not (is_left and grant.fence == entry.fence)


def _take_over(grant: Grant) -> Lease:
    """Make the row's lease ours: a holder that comes back late finds another number."""
    grant.fence += 1
    grant.leased_until = timezone.now() + LEASE
    grant.save(update_fields=["fence", "leased_until"])
    return Lease(
        grant.pk,
        grant.tenant_id,
        grant.fence,
        grant.state,
        grant.failures,
        grant.rotates,
        grant.renewed_at,
        grant.incident,
        grant.failing_since,
        ran_out=False,
        before=grant.state,
    )

"""Brings answers that are in the spool and not in the database where they belong.

An answer counts under its own lease, and also later, as long as the refresh token that it was got with is still the
stored one: then nobody has newer tokens. It is stored once, because storing it ends the lease and replaces that token.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import Error as DatabaseError
from django.db import transaction
from django.utils import timezone

from connections.models import ConnectionStatus, ExternalApiConnection, Grant
from connections.oauth.commits import commit
from connections.oauth.leases import LEASE, Lease
from connections.oauth.settlement import Facts, settle
from connections.oauth.spool import Entry, files, own_spool
from connections.oauth.tokens import Tokens
from connections.oauth.turns import consumed
from connections.opening import refresh_margin_seconds
from external_apis.data_keys import key_of
from external_apis.errors import UnknownKey, VaultError

__all__ = ["Recovered", "recover", "recover_at_start"]

log = structlog.get_logger(__name__)

# Earlier than a lease is free to others: what it left behind comes before a claim that would doubt it.
_HEAD_START = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Recovered:
    """How many spooled answers were stored, found to be of no use any more, and kept for another time."""

    applied: int = 0
    dropped: int = 0
    kept: int = 0


def recover() -> Recovered:
    """Apply what processes of this machine left in the spool; repeat it at will. Raises Django's database errors."""
    counts = {"applied": 0, "dropped": 0, "kept": 0}
    with files() as found:
        for file in found:
            settled = True
            for entry in file.entries():
                verdict = _apply(entry, is_left=file.is_left)
                counts[verdict] += 1
                if verdict == "kept":
                    settled = False
                else:
                    own_spool().settle([entry])
            if settled:
                file.remove()
    if counts["applied"] or counts["dropped"]:
        log.warning("the spool was applied", **counts)
    return Recovered(**counts)


def recover_at_start() -> None:
    """The same for a process that starts: a database that is away is left to the next sweep."""
    try:
        recover()
    except DatabaseError as error:
        log.warning("the spool waits for the database", error=type(error).__name__)


def _apply(entry: Entry, *, is_left: bool) -> str:
    now = timezone.now()
    with transaction.atomic():
        grant = Grant.objects.select_for_update().filter(pk=entry.connection_id).first()
        rows = ExternalApiConnection.objects.select_related("external_api", "credential")
        row = rows.filter(pk=entry.connection_id).first()
        if grant is None or row is None or row.status == ConnectionStatus.REVOKED:
            return "dropped"
        if _is_busy(grant, entry, now, is_left=is_left):
            return "kept"
        try:
            content = json.loads(entry.open(key_of(entry.sealed)))
            stored = row.credential.secrets.get("refresh_token")
        except UnknownKey as error:
            log.error("a spooled answer does not open", connection_id=row.pk, reason=error.code)  # noqa: TRY400
            return "kept"
        except VaultError as error:  # damaged, or the keys of its tenant were destroyed with all that it had
            log.error("a spooled answer was dropped", connection_id=row.pk, reason=error.code)  # noqa: TRY400
            return "dropped"
        is_current = grant.fence == entry.fence and grant.leased_until is not None
        if not is_current and (stored is None or consumed(stored) != content["consumed"]):
            return "dropped"
        facts = Facts(row.credential.expires_at, row.status, refresh_margin_seconds(row.external_api), stored)
        lease = _take_over(grant)
        commit([settle(lease, facts, Tokens.from_json(content["tokens"]), now)], "recovery")
    return "applied"


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
        ran_out=False,
        before=grant.state,
    )

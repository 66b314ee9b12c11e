"""Whose turn it is to renew a grant: taken by one conditional UPDATE, numbered, and bounded in time.

Invariants, of which the rest of the package makes use:

1. ``fence`` only grows: by a claim, by whoever replaces the refresh token or ends the grant, by a late answer.
2. While somebody has the lease nobody else sends that refresh token. A change that leaves the token alone leaves the
   lease alone too (see `grants`).
3. How a turn ended is stored only while its own number is the row's (see `commits`). New tokens alone are also stored
   later, once, as long as nothing newer is (see `late`): the provider has used up the old ones.
4. A lease is ended by its holder, also where nothing was sent. One that ran out tells of a holder that died, or whose
   database did, somewhere in the middle: the next holder finds the grant in doubt (see `settlement`).
5. An answer that lies in the spool and cannot be stored keeps its lease (`hold`): the token that it was got with is
   used up, and nobody may send it again. So the spool is tried before anything is claimed.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection as database
from django.utils import timezone

from connections.models import Grant, GrantState

__all__ = ["CALL_SECONDS", "LEASE", "Lease", "claim", "claim_due", "hold", "is_over", "release"]

CALL_SECONDS = 12.0
"""Within which a token endpoint answers. The rest of a lease is for the commit, and for clocks that differ."""

LEASE = timedelta(seconds=60)
_HELD = 3 * LEASE


@dataclass(frozen=True, slots=True)
class Lease:
    """A turn at a grant, with what the row held; ``ran_out`` tells that the turn before it never ended."""

    connection_id: str
    tenant_id: str | None
    fence: int
    state: str
    failures: int
    rotates: bool | None
    renewed_at: datetime | None
    incident: str
    failing_since: datetime | None
    ran_out: bool
    before: str
    """The state that the last holder left or found."""

    @property
    def is_newly_doubtful(self) -> bool:
        """Whether this very claim has put the grant in doubt."""
        return self.state == GrantState.IN_DOUBT != self.before


# A holder that was never heard of again leaves a doubt, unless asking twice costs nothing at this provider. Once more
# is too often where it is known to matter. (Materialized as in `connections.due_work`.)
_CLAIM = f"""
WITH free AS MATERIALIZED (
    SELECT connection_id, leased_until IS NOT NULL AS ran_out, state AS before
    FROM {Grant._meta.db_table}
    WHERE {{which}} AND (leased_until IS NULL OR leased_until < %(now)s)
    {{how}}
)
UPDATE {Grant._meta.db_table} AS row
SET fence = row.fence + 1, leased_until = %(until)s, lease_holder = %(holder)s,
    state = CASE
        WHEN free.ran_out AND row.rotates IS NOT FALSE AND row.state = '{GrantState.GOOD}'
            THEN '{GrantState.IN_DOUBT}'
        WHEN free.ran_out AND row.rotates AND row.state = '{GrantState.IN_DOUBT}'
            THEN '{GrantState.NEEDS_REAUTHORIZATION}'
        ELSE row.state END
FROM free WHERE row.connection_id = free.connection_id
RETURNING row.connection_id, row.tenant_id, row.fence, row.state, row.failures, row.rotates, row.renewed_at,
    row.incident, row.failing_since, free.ran_out, free.before
"""  # noqa: S608 (our own table's name and states)

_ONE = _CLAIM.format(which="connection_id = %(id)s", how="FOR UPDATE")
_DUE = _CLAIM.format(
    which="due_at <= %(now)s AND NOT connection_id = ANY(%(passed)s)",
    how="ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED",
)


def claim(connection_id: str) -> Lease | None:
    """Take the grant of a connection; None while another holder has it, or where there is none."""
    leases = _take(_ONE, id=connection_id)
    return leases[0] if leases else None


def claim_due(limit: int, passed: list[str] | None = None) -> list[Lease]:
    """Take up to ``limit`` due grants, the longest overdue first, leaving out those that are ``passed``. One query."""
    return _take(_DUE, limit=limit, passed=passed or [])


def release(leases: list[Lease]) -> None:
    """Give up leases that have not ended and under which nothing was sent, or nothing happened."""
    for lease in leases:
        Grant.objects.filter(connection_id=lease.connection_id, fence=lease.fence, leased_until__isnull=False).update(
            leased_until=None, lease_holder="", state=lease.state
        )


def hold(connection_id: str, fence: int) -> None:
    """Keep a lease, also one that ran out, for an answer in the spool that cannot be stored yet."""
    Grant.objects.filter(connection_id=connection_id, fence=fence).update(leased_until=timezone.now() + _HELD)


def is_over(grant: Grant, fence: int, now: datetime) -> bool:
    """Tell whether the turn with that number has ended, was overtaken, or ran out."""
    return grant.fence != fence or grant.leased_until is None or grant.leased_until < now


def _take(statement: str, **values: Any) -> list[Lease]:
    now = timezone.now()
    values |= {"now": now, "until": now + LEASE, "holder": f"{socket.gethostname()[:60]}:{os.getpid()}"}
    with database.cursor() as cursor:
        cursor.execute(statement, values)
        return [Lease(*row) for row in cursor.fetchall()]

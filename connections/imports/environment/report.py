"""Which variables are still needed: where each one's value is, and when the environment last had to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from connections.env_secrets import first_stored
from connections.imports.environment.variables import Findings, is_own
from connections.models import EnvironmentVariable
from external_apis.errors import VaultError
from external_apis.models import Tenant

__all__ = ["Known", "report"]

_ASKED = "was answered from the environment after it was imported"


@dataclass(frozen=True)
class Known:
    """A variable of the report; ``source`` is where `get_env_secret` takes it from now."""

    name: str
    source: str
    is_in_environment: bool
    answered_from_environment: int
    last_answered_from_environment_at: datetime | None
    is_safe_to_delete: bool
    reason: str


def report(findings: Findings, values: Mapping[str, str], tenant: Tenant | None = None) -> list[Known]:
    """Tell of each variable that was imported, asked for, or could be imported, in order of names.

    Only what asks through `get_env_secret` is seen; code that reads ``os.environ`` itself is not. The environment has
    one value for all: what it answered without the tenant, or for another one, counts as well.
    """
    paths = ("connection__credential", "connection__external_api", "external_api")
    rows: dict[str, list[EnvironmentVariable]] = {}
    for row in EnvironmentVariable.objects.select_related(*paths):
        rows.setdefault(row.name, []).append(row)
    tenant_id = tenant.pk if tenant else None
    noted = {name for name, found in rows.items() if any(row.tenant_id == tenant_id for row in found)}
    names = {*noted, *(variable.name for group in findings.groups for variable in group.variables), *findings.unknown}
    return [_known(name, rows.get(name, []), values.get(name), tenant_id) for name in sorted(names)]


def _known(name: str, rows: Sequence[EnvironmentVariable], given: str | None, tenant_id: str | None) -> Known:
    mine = [row for row in rows if row.tenant_id in (None, tenant_id)]
    found = None
    try:
        found = first_stored(mine)
        reason = _reason_to_keep(name, mine, found, given)
        if not reason and found is not None:
            reason = _reason_of_others(found[0], rows, tenant_id)
    except VaultError:
        reason = "what is stored does not open"
    answered_at = [row.last_answered_from_environment_at for row in rows]
    return Known(
        name,
        _source(found[0]) if found is not None else "environment" if given is not None else "nowhere",
        given is not None,
        sum(row.answered_from_environment for row in rows),
        max((at for at in answered_at if at is not None), default=None),
        not reason,
        reason,
    )


def _reason_to_keep(
    name: str, mine: Sequence[EnvironmentVariable], found: tuple[EnvironmentVariable, str] | None, given: str | None
) -> str:
    if is_own(name):
        return "is this product's own"
    if found is None:
        was_imported = any(row.imported_at is not None for row in mine)
        return "was deleted from the database" if was_imported else "is not in the database"
    row, stored = found
    if given is not None and given.strip() != stored:
        return "differs from what is stored"
    asked_at, imported_at = row.last_answered_from_environment_at, row.imported_at
    if asked_at is not None and imported_at is not None and asked_at > imported_at:
        return _ASKED
    return ""


def _reason_of_others(
    answering: EnvironmentVariable, rows: Sequence[EnvironmentVariable], tenant_id: str | None
) -> str:
    """A tenant is answered from its own import, or from everybody's, since whichever of them is there still."""
    everybodys = [row for row in rows if row.tenant_id is None]
    for row in rows:
        asked_at = row.last_answered_from_environment_at
        if row is answering or asked_at is None:
            continue
        imported_at = [one.imported_at for one in (row, *everybodys) if first_stored([one]) is not None]
        if all(at is not None and asked_at > at for at in imported_at):
            if row.tenant_id == tenant_id:
                return _ASKED
            whom = "without this tenant" if tenant_id is not None else "for a tenant"
            return f"was answered from the environment {whom}"
    return ""


def _source(row: EnvironmentVariable) -> str:
    if row.connection is not None:
        return f"{row.connection.external_api.slug}/{row.connection.slug} {row.place}"
    return f"{row.external_api.slug if row.external_api else ''} {row.place}"

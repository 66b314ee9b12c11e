"""Which variables are still needed: where each one's value is, and when the environment last had to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from connections.env_secrets import stored_value
from connections.imports.environment.variables import Findings, is_own
from connections.models import EnvironmentVariable
from external_apis.errors import VaultError
from external_apis.models import Tenant

__all__ = ["Known", "report"]


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
    rows = {row.name: row for row in EnvironmentVariable.objects.filter(tenant=tenant).select_related(*paths)}
    everywhere: dict[str, list[EnvironmentVariable]] = {}
    for row in EnvironmentVariable.objects.all():
        everywhere.setdefault(row.name, []).append(row)
    names = {*rows, *(variable.name for group in findings.groups for variable in group.variables), *findings.unknown}
    return [
        _known(rows.get(name) or EnvironmentVariable(name=name), everywhere.get(name, []), values.get(name))
        for name in sorted(names)
    ]


def _known(row: EnvironmentVariable, everywhere: Sequence[EnvironmentVariable], given: str | None) -> Known:
    try:
        stored = stored_value(row)
        reason = _reason_to_keep(row, stored, given) or _reason_of_others(row, everywhere)
    except VaultError:
        stored, reason = None, "what is stored does not open"
    answered_at = [one.last_answered_from_environment_at for one in everywhere]
    return Known(
        row.name,
        _source(row) if stored is not None else "environment" if given is not None else "nowhere",
        given is not None,
        sum(one.answered_from_environment for one in everywhere),
        max((at for at in answered_at if at is not None), default=None),
        not reason,
        reason,
    )


def _reason_to_keep(row: EnvironmentVariable, stored: str | None, given: str | None) -> str:
    if is_own(row.name):
        return "is this product's own"
    if stored is None:
        return "is not in the database" if row.imported_at is None else "was deleted from the database"
    if given is not None and given.strip() != stored:
        return "differs from what is stored"
    asked_at, imported_at = row.last_answered_from_environment_at, row.imported_at
    if asked_at is not None and imported_at is not None and asked_at > imported_at:
        return "was answered from the environment after it was imported"
    return ""


def _reason_of_others(row: EnvironmentVariable, everywhere: Sequence[EnvironmentVariable]) -> str:
    """A tenant is answered from its own import, or from everybody's, since whichever of them there has been."""
    everybodys = [one.imported_at for one in everywhere if one.tenant_id is None]
    for one in everywhere:
        asked_at = one.last_answered_from_environment_at
        imported_at = [at for at in (one.imported_at, *everybodys) if at is not None]
        if one.pk != row.pk and asked_at is not None and all(asked_at > at for at in imported_at):
            whom = "without this tenant" if row.tenant_id is not None else "for a tenant"
            return f"was answered from the environment {whom}"
    return ""


def _source(row: EnvironmentVariable) -> str:
    if row.connection is not None:
        return f"{row.connection.external_api.slug}/{row.connection.slug} {row.place}"
    return f"{row.external_api.slug if row.external_api else ''} {row.place}"

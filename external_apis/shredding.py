"""Make one tenant's secrets unreadable for good: its data keys are destroyed, what was sealed stays behind as noise.

What this holds against, and what it does not, stands in docs/vault.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from external_apis import audit, changes, request_context
from external_apis.backup import key_file
from external_apis.data_keys import DataKeys, data_keys
from external_apis.errors import Conflict
from external_apis.models import ApiKey, DataKey, Tenant
from external_apis.rotation import Column, columns, reseal

__all__ = ["Shredded", "shred"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Shredded:
    """``keys`` destroyed, ``rows`` made unreadable; ``resealed`` of them stood under no key of the tenant until now.

    ``has_key_file`` tells whether ``BACKUP_KEYS_FILE`` was there to be brought up to date.
    """

    keys: int
    rows: int
    resealed: int
    has_key_file: bool


def shred(tenant: Tenant) -> Shredded:
    """Destroy the data keys of a tenant, here and in ``BACKUP_KEYS_FILE``, and end its API keys.

    Repeat it when it was broken off.

    Running processes forget an opened key within `data_keys.OPENING_SECONDS`. Raises `Conflict`, having destroyed
    nothing, while rows of the tenant are being changed, and `InvalidInput` where the file is not found or cannot be
    written. The file comes first: should the database then fail to commit, the keys are only gone from the file.
    """
    with transaction.atomic():
        # Whoever seals for the tenant meanwhile, under the same key, is shredded with the rest.
        own = [column for column in columns() if column.field.tenant_attname]
        resealed = sum(_gather(column, tenant) for column in own)
        rows = sum(_forget_hints(column, tenant) for column in own)
        keys = list(DataKey.objects.select_for_update().filter(tenant=tenant, shredded_at=None))
        for key in keys:
            key.wrapped = None
            key.shredded_at = timezone.now()
            key.save(update_fields=["wrapped", "shredded_at"])
        _end_api_keys(tenant)
        for column in own:
            changes.announce(map(str, _rows(column, tenant).values_list("pk", flat=True)))
        audit.record("tenant.shredded", tenant, {"data_keys": [key.pk for key in keys], "rows": rows})
        has_key_file = key_file.refresh()
    data_keys().forget()
    log.warning(
        "tenant shredded",
        tenant=tenant.slug,
        tenant_id=tenant.pk,
        keys=[key.pk for key in keys],
        rows=rows,
        actor=request_context.current().actor,
    )
    return Shredded(keys=len(keys), rows=rows, resealed=resealed, has_key_file=has_key_file)


def _gather(column: Column, tenant: Tenant) -> int:
    """Bring the tenant's rows that are sealed under a master key or a stranger's key under its own."""
    own = frozenset(DataKey.objects.filter(tenant=tenant).values_list("pk", flat=True))
    steps = list(reseal(column, DataKeys(), leave=own, tenant_id=tenant.pk))
    if any(step.busy for step in steps):
        raise Conflict(f"{column}: rows of tenant {tenant.slug} are being changed. Nothing was destroyed; try again.")
    return sum(step.resealed for step in steps)


def _forget_hints(column: Column, tenant: Tenant) -> int:
    """The last characters that lists show are in clear."""
    rows = _rows(column, tenant)
    names = {field.name for field in column.model._meta.concrete_fields}
    return rows.update(secret_hints={}) if "secret_hints" in names else rows.count()


def _end_api_keys(tenant: Tenant) -> None:
    """Nobody calls us any more in the name of a tenant whose secrets are gone."""
    now = timezone.now()
    living = ApiKey.objects.filter(Q(revoked_at=None) | Q(revoked_at__gt=now), tenant=tenant)
    living.update(revoked_at=now, revoked_by=request_context.current().actor, updated_at=now)


def _rows(column: Column, tenant: Tenant) -> QuerySet[Any]:
    return column.model._base_manager.filter(**{str(column.field.tenant_attname): tenant.pk})

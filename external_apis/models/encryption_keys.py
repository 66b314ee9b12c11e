"""Which keys have sealed something in this database: master keys by their id, data keys sealed under those."""

from __future__ import annotations

from functools import partial

from django.db import models
from django.db.models import Q
from django.utils import timezone

from external_apis.ids import new_id
from external_apis.models.base import History
from external_apis.models.tenants import Tenant


class EncryptionKey(models.Model):
    """A master key's id with a sealed check value, by which another key under the same id is told apart.

    A retired one seals nothing any more and is never written with again.
    """

    id = models.CharField(primary_key=True, max_length=32)
    check_value = models.BinaryField()
    first_used_at = models.DateTimeField(default=timezone.now)
    retired_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.id


class DataKey(models.Model):
    """The key under which a tenant's secrets (or, without tenant, the global rows' secrets) are sealed.

    ``wrapped`` is the key itself, sealed under a master key; None once it was shredded. A replaced key still reads.
    ``wrapped`` is neither in the history nor in a backup: see docs/vault.md. ``kept_at`` tells since when the key
    stands in ``BACKUP_KEYS_FILE``, which has to be at hand from then on.
    """

    id = models.CharField(primary_key=True, max_length=32, default=partial(new_id, "dk"), editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="data_keys")
    wrapped = models.BinaryField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    replaced_at = models.DateTimeField(null=True, blank=True)
    shredded_at = models.DateTimeField(null=True, blank=True)
    kept_at = models.DateTimeField(null=True, blank=True, editable=False)

    history = History(excluded_fields=["wrapped", "kept_at"])

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["tenant"],
                condition=Q(replaced_at__isnull=True, shredded_at__isnull=True),
                nulls_distinct=False,
                name="data_key_one_writes",
            ),
        )

    def __str__(self) -> str:
        return self.id

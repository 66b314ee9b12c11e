"""Old rows that renewed tokens are written back to, for as long as another system still reads them there."""

from __future__ import annotations

from functools import partial

from django.db import models
from django.db.models import Q
from django.utils import timezone

from connections.models.connections import ExternalApiConnection
from connections.models.due_work import DueWork
from connections.models.imports import ImportRun
from external_apis.fields import SecretsField
from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import Tenant


class OldDatabase(models.Model):
    """The database whose rows an import keeps up to date; ``secrets`` holds its ``url``, none for our own one."""

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "odb"), editable=False)
    run = models.OneToOneField(ImportRun, on_delete=models.CASCADE, related_name="old_database")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    source = models.CharField(max_length=500)
    secrets = SecretsField(default=dict, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.source


class WriteBack(DueWork):
    """One connection's row over there, due when the connection has tokens that it has not been given.

    ``stands`` is sealed: the digests of tokens that stand in the old row as far as we know; others mean that the old
    system has changed them, and they are left as they are. ``error`` tells why nothing is written, without a value.
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "wb"), editable=False)
    connection = models.OneToOneField(ExternalApiConnection, on_delete=models.CASCADE, related_name="write_back")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    old_database = models.ForeignKey(OldDatabase, on_delete=models.CASCADE, related_name="write_backs")
    kind = models.CharField(max_length=20)
    number = models.BigIntegerField(help_text="The old row's primary key.")
    stands = SecretsField(default=dict, editable=False)
    written_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        verbose_name = "write-back"
        indexes = (models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="write_back_by_due_at"),)

    def __str__(self) -> str:
        return f"{self.kind}:{self.number}"

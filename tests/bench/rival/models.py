"""Our tables as the rival sees them."""

from __future__ import annotations

from django.db import models


class Connection(models.Model):
    id = models.CharField(primary_key=True, max_length=48)
    external_api_id = models.CharField(max_length=48)
    connection_name = models.CharField(max_length=200)
    slug = models.CharField(max_length=100)
    status = models.CharField(max_length=10)
    tenant_id = models.CharField(max_length=48, null=True)
    partner_id = models.CharField(max_length=48, null=True)
    user_id = models.CharField(max_length=48, null=True)
    owner_id = models.CharField(max_length=48, null=True)
    rotate_by = models.DateField(null=True)
    last_used_at = models.DateTimeField(null=True)
    last_sync_at = models.DateTimeField(null=True)
    error_message = models.TextField(null=True)
    calls_count = models.BigIntegerField()
    errors_count = models.BigIntegerField()
    authenticated_at = models.DateTimeField()
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        managed = False
        db_table = "connections_externalapiconnection"

    def __str__(self) -> str:
        return self.connection_name


class Credential(models.Model):
    connection = models.OneToOneField(
        Connection, on_delete=models.DO_NOTHING, primary_key=True, related_name="credential"
    )
    expires_at = models.DateTimeField(null=True)

    class Meta:
        managed = False
        db_table = "connections_externalapicredential"

    def __str__(self) -> str:
        return str(self.pk)

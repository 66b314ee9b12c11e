"""API keys of our own (seed 003): who may call us, and for what."""

from __future__ import annotations

from functools import partial

from django.contrib.postgres.fields import ArrayField
from django.db import models

from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models.accounts import Account
from external_apis.models.base import Timestamped
from external_apis.models.secret_bearing import SecretBearing
from external_apis.models.tenants import Tenant


class KeyType(models.TextChoices):
    PUBLISHABLE = "publishable"
    SECRET = "secret"  # noqa: S105 (a word of seed 003)


class KeyMode(models.TextChoices):
    LIVE = "live"
    TEST = "test"


class ApiKey(Timestamped):
    """A key, of which only a keyed digest is stored; ``public_part`` finds it, ``redacted`` shows it.

    ``revoked_at`` may lie in the future: the key works until then. ``last_used_at`` and ``last_used_from`` are coarse.
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "apk"), editable=False)
    title = models.CharField(max_length=200)
    type = models.CharField(max_length=11, choices=KeyType.choices)
    mode = models.CharField(max_length=4, choices=KeyMode.choices)
    public_part = models.CharField(max_length=32, unique=True, editable=False)
    digest = models.BinaryField(max_length=32, editable=False)
    redacted = models.CharField(max_length=20, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="api_keys")
    owner = models.ForeignKey(Account, on_delete=models.PROTECT, null=True, blank=True, related_name="api_keys")
    service = models.CharField(max_length=100, blank=True, help_text="The service that uses it, where no user owns it.")
    scopes = ArrayField(models.CharField(max_length=60), default=list, blank=True)
    allowed_networks = ArrayField(models.CharField(max_length=50), default=list, blank=True)
    rate_limit = models.PositiveIntegerField(null=True, blank=True, help_text="Requests an hour, where not the usual.")
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_from = models.GenericIPAddressField(null=True, blank=True, editable=False)
    created_by = models.CharField(max_length=200, blank=True, editable=False)
    revoked_by = models.CharField(max_length=200, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    rolled_from = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="rolled_to")

    class Meta:
        verbose_name = "API key"
        ordering = ("-id",)
        indexes = (models.Index(fields=["tenant", "-id"], name="api_key_by_tenant"),)

    def __str__(self) -> str:
        return f"{self.title} ({self.redacted})"


class DigestSecret(SecretBearing, Timestamped):
    """The secret under which keys are digested, itself sealed: it survives the rotation of the encryption keys."""

    id = models.CharField(primary_key=True, max_length=32, editable=False)

    def __str__(self) -> str:
        return self.id

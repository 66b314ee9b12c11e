"""Runs of the import commands, what each of them made here, and the variables whose values have moved in."""

from __future__ import annotations

from functools import partial

from django.db import models
from django.db.models import Q
from django.utils import timezone

from connections.models.connections import ExternalApiConnection
from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import ExternalApi, Tenant


class ImportKind(models.TextChoices):
    ENV = "env"
    DJANGO_OAUTH = "django_oauth"
    SOCIAL_PLATFORMS = "social_platforms"


class ImportState(models.TextChoices):
    RUNNING = "running"
    """Somebody works on it, or was killed at it."""
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    """It broke off; as with the two above, the next one of the same source goes on with it."""
    FINISHED = "finished"
    UNDONE = "undone"


class ImportOutcome(models.TextChoices):
    CREATED = "created"
    UPDATED = "updated"


class ImportRun(models.Model):
    """One import. ``source`` describes where from, without a secret; ``origin`` digests kind, source and tenant.

    ``counts`` are rows by what became of them; ``position`` is where the next batch begins, in the importer's own
    terms. ``fence`` numbers those who worked on it: a batch is stored only by the last of them.
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "imp"), editable=False)
    kind = models.CharField(max_length=20, choices=ImportKind.choices)
    source = models.CharField(max_length=500)
    origin = models.CharField(max_length=64)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    state = models.CharField(max_length=11, choices=ImportState.choices, default=ImportState.RUNNING)
    fence = models.BigIntegerField(default=1)
    counts = models.JSONField(default=dict, blank=True)
    position = models.JSONField(default=dict, blank=True)
    report_path = models.CharField(max_length=1_000, blank=True, default="")
    error_message = models.TextField(blank=True, default="")
    actor = models.CharField(max_length=200, blank=True, default="")
    request_id = models.CharField(max_length=64, blank=True, default="")
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        indexes = (models.Index(fields=["origin", "-id"], name="import_run_by_origin"),)

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class ImportedRow(models.Model):
    """What a run made of one thing in its source: which row here, and what that row was right after it.

    ``source_key`` names the thing for everybody who imports from the same source again; ``source_digest`` may hold what
    it looked like there, in the importer's own terms. ``fingerprint`` is that of the row here (see
    `connections.imports.fingerprints`); ``token_digest`` is that of the refresh token that came with it, whoever it is
    of (see `connections.imports.refresh_tokens`).
    """

    run = models.ForeignKey(ImportRun, on_delete=models.CASCADE, related_name="rows", db_index=False)
    origin = models.CharField(max_length=64)
    source_key = models.CharField(max_length=250)
    source_digest = models.CharField(max_length=64, blank=True, default="")
    token_digest = models.CharField(max_length=64, blank=True, default="")
    object_type = models.CharField(max_length=60)
    object_id = models.CharField(max_length=MAX_LENGTH)
    outcome = models.CharField(max_length=7, choices=ImportOutcome.choices)
    fingerprint = models.CharField(max_length=64)

    class Meta:
        constraints = (
            # Whatever goes wrong with two runs at once, nothing is made twice.
            models.UniqueConstraint(
                fields=["origin", "source_key", "object_type"],
                condition=Q(outcome="created"),
                name="imported_row_made_once",
            ),
        )
        indexes = (
            models.Index(fields=["run", "-id"], name="imported_row_by_run"),
            models.Index(fields=["origin", "source_key"], name="imported_row_by_source"),
            models.Index(fields=["token_digest"], condition=~Q(token_digest=""), name="imported_row_by_token"),
        )

    def __str__(self) -> str:
        return f"{self.source_key} {self.outcome}"


class EnvironmentVariable(models.Model):
    """A variable that was imported or asked for: where its value stands here, and how often the environment answered.

    ``place`` is where the row holds it: ``access_token`` or ``provider_data.account_sid`` of a connection,
    ``oauth2.client_secret`` of a provider. Without a row the environment is all there is. ``digest`` is the keyed
    fingerprint of the value that was imported last.
    """

    name = models.CharField(max_length=250)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    connection = models.ForeignKey(
        ExternalApiConnection, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    external_api = models.ForeignKey(ExternalApi, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    place = models.CharField(max_length=120, blank=True, default="")
    digest = models.CharField(max_length=64, blank=True, default="")
    imported_at = models.DateTimeField(null=True, blank=True)
    answered_from_environment = models.BigIntegerField(default=0)
    last_answered_from_environment_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("name",)
        constraints = (
            models.UniqueConstraint(
                fields=["name", "tenant"], name="environment_variable_unique", nulls_distinct=False
            ),
        )

    def __str__(self) -> str:
        return self.name

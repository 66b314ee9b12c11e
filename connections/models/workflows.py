"""Runs of workflows (seed 003), and what became of each of their steps."""

from __future__ import annotations

from functools import partial

from django.db import models
from django.db.models import Q
from django.utils import timezone

from connections.models.due_work import DueWork
from external_apis.fields import SecretsField
from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import Tenant


class RunState(models.TextChoices):
    """``open`` is a run whose steps are not all done, ``reverting`` one whose compensations are not."""

    OPEN = "open"
    REVERTING = "reverting"
    SUCCEEDED = "succeeded"
    REVERTED = "reverted"
    CANCELLED = "cancelled"
    FAILED = "failed"


class StepState(models.TextChoices):
    DONE = "done"
    FAILED = "failed"


class UndoState(models.TextChoices):
    """What became of a step's compensation."""

    NONE = ""
    DONE = "done"
    FAILED = "failed"


class WorkflowRun(DueWork):
    """One run. While somebody works on it ``due_at`` is the end of the lease, else the time of the next attempt.

    ``handed_back`` is the ``fence`` of the claim that was handed back last: while both are the same nobody works on the
    run, and when a claim finds more than one between them its predecessor died. ``is_in_doubt`` tells that the step
    under way may have had an effect already, and ``tries`` how often it failed (of a reverting run: the compensation).
    ``step_position``, ``step_name`` and ``step_began_at`` are of the step that was being done or undone when anything
    was last stored of the run, seconds ago; it may be done since. ``mode`` is that of the key that started the run,
    empty where it was none. ``input`` and ``result`` hold JSON under the name ``json``. ``hands_over`` tells that a
    step left something to be taken once (see `connections.workflows`).
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "run"), editable=False)
    workflow = models.CharField(max_length=100)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+", db_index=False
    )
    mode = models.CharField(max_length=4, blank=True, default="")
    state = models.CharField(max_length=9, choices=RunState.choices, default=RunState.OPEN)
    input = SecretsField(default=dict, editable=False)
    result = SecretsField(default=dict, editable=False)
    idempotency_key = models.CharField(max_length=255, blank=True, default="")
    handed_back = models.BigIntegerField(default=0, editable=False)
    tries = models.PositiveIntegerField(default=0)
    is_in_doubt = models.BooleanField(default=False)
    hands_over = models.BooleanField(default=False)
    step_position = models.PositiveIntegerField(default=0, editable=False)
    step_name = models.CharField(max_length=100, blank=True, default="", editable=False)
    step_began_at = models.DateTimeField(null=True, blank=True, editable=False)
    error_code = models.CharField(max_length=60, blank=True, default="")
    error_message = models.TextField(blank=True, default="")
    request_id = models.CharField(max_length=64, blank=True, default="")
    started_by = models.CharField(max_length=200, blank=True, default="")
    retry_of = models.OneToOneField(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="retried_by", verbose_name="retry of"
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    cancel_requested_at = models.DateTimeField(null=True, blank=True, editable=False)
    finished_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "workflow run"
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(
                fields=["workflow", "tenant", "mode", "idempotency_key"],
                condition=~Q(idempotency_key=""),
                nulls_distinct=False,
                name="workflow_run_once",
            ),
        )
        indexes = (
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="workflow_run_by_due_at"),
            models.Index(fields=["tenant", "-id"], name="workflow_run_by_tenant"),
            models.Index(fields=["state", "-id"], name="workflow_run_by_state"),
            # What is pruned, and what is wiped before.
            models.Index(fields=["finished_at"], condition=Q(finished_at__isnull=False), name="workflow_run_by_end"),
            models.Index(fields=["finished_at"], condition=Q(hands_over=True), name="workflow_run_untaken"),
        )

    def __str__(self) -> str:
        return f"{self.workflow} {self.id}"


class WorkflowStep(models.Model):
    """A step that has come to its end. ``contents`` holds JSON: ``input``, ``result``, and ``once`` until it is taken.

    ``may_have_happened`` tells of a failed one that it may have had an effect, ``undo`` what its compensation came to,
    and ``undo_refusals`` how often that was refused: each time another idempotency key is due.
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "step"), editable=False)
    run = models.ForeignKey(WorkflowRun, on_delete=models.CASCADE, related_name="steps", db_index=False)
    # Its run's, and gone with that: nothing looks for steps by their tenant.
    tenant = models.ForeignKey(
        Tenant,
        on_delete=models.DO_NOTHING,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    position = models.PositiveIntegerField()
    name = models.CharField(max_length=100)
    state = models.CharField(max_length=6, choices=StepState.choices)
    contents = SecretsField(default=dict, editable=False)
    tries = models.PositiveIntegerField(default=0)
    may_have_happened = models.BooleanField(default=False)
    error_code = models.CharField(max_length=60, blank=True, default="")
    error_message = models.TextField(blank=True, default="")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    undo = models.CharField(max_length=6, choices=UndoState.choices, blank=True, default=UndoState.NONE)
    undo_error = models.TextField(blank=True, default="")
    undone_at = models.DateTimeField(null=True, blank=True)
    undo_refusals = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        ordering = ("position",)
        constraints = (models.UniqueConstraint(fields=["run", "position"], name="workflow_step_once"),)

    def __str__(self) -> str:
        return f"{self.position}. {self.name}"

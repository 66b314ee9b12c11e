"""Bring the variables of an environment into providers and connections, all in one transaction.

A dry run does the same, its notes included, and rolls it back, so that it says what will happen, and not what somebody
expects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from connections.imports import runs
from connections.imports.environment.groups import import_group
from connections.imports.environment.steps import Step
from connections.imports.environment.variables import Findings
from connections.models import EnvironmentVariable, ImportKind, ImportRun
from external_apis.models import Tenant

__all__ = ["Result", "import_variables"]

SOURCE = "environment variables"


@dataclass(frozen=True)
class Result:
    steps: Sequence[Step]
    run: ImportRun | None
    """None where nothing was written."""

    @property
    def counts(self) -> dict[str, int]:
        outcomes = [step.outcome for step in self.steps]
        return {name: outcomes.count(name) for name in dict.fromkeys(outcomes)}


def import_variables(
    findings: Findings, tenant: Tenant | None = None, *, is_applied: bool, overwrite: bool = False, stop: object = None
) -> Result:
    """Import what was found, or with ``is_applied`` False tell what that would do; at a ``stop`` nothing is stored.

    A provider whose variables are refused is ``failed`` and stores nothing; the others are imported all the same. Of
    two at once the second waits, and recognises what the first has stored.
    """
    with transaction.atomic():
        runs.hold(ImportKind.ENV, SOURCE, tenant=tenant)
        before = runs.preview(ImportKind.ENV, SOURCE, tenant=tenant)
        steps = []
        for group in findings.groups:
            steps.append(import_group(group, tenant, before, overwrite=overwrite))
            if stop:
                break
        run = None if stop else _note(Result(steps, None), tenant)
        if stop or not is_applied:
            transaction.set_rollback(True)
            run = None
    return Result(steps, run)


def _note(result: Result, tenant: Tenant | None) -> ImportRun | None:
    notes = [row for step in result.steps for row in step.notes]
    made = [one for step in result.steps for one in step.made]
    if not notes and not made:
        return None
    for row in notes:
        row.imported_at = timezone.now()
    # Somebody may have asked for one just now, which counts it.
    EnvironmentVariable.objects.bulk_create(
        notes,
        update_conflicts=True,
        unique_fields=["name", "tenant"],
        update_fields=["connection", "external_api", "place", "digest", "imported_at"],
    )
    run = runs.begin(ImportKind.ENV, SOURCE, tenant=tenant)
    runs.forget(run, made)
    runs.record(run, made, result.counts)
    runs.finish(run)
    return run

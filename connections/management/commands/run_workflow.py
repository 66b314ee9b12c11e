"""``manage.py run_workflow send-sms --input '{"to_number": …}'``: start a workflow, and wait for it if asked to."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q

from connections import workflows
from connections.models import WorkflowRun
from connections.workflows import RunStatus
from connections.workflows.runs import FINISHED
from external_apis import json_input, request_context
from external_apis.errors import ApiManagerError, InvalidInput, NotFound
from external_apis.ids import can_name
from external_apis.models import Tenant


class Command(BaseCommand):
    help = "Start a workflow and print the run's id; with --wait, wait for the worker and print the result as JSON."

    def add_arguments(self, parser: ArgumentParser) -> None:
        names = ", ".join(one.name for one in workflows.workflows())
        parser.add_argument("name", help=f"the workflow: {names}")
        parser.add_argument("--input", "-i", default="{}", metavar="JSON|@FILE|@-", help="what it is started with")
        parser.add_argument("--wait", action="store_true", help="wait until the run has finished")
        parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="how long to wait")
        parser.add_argument("--idempotency-key", default="", help="the same key gives the run that there is")
        parser.add_argument("--tenant", help="the tenant that it runs for, by id or slug")

    def handle(self, *args: Any, **options: Any) -> None:
        with request_context.acting("command:run_workflow"):
            try:
                run = workflows.start(
                    options["name"],
                    _read(options["input"]),
                    idempotency_key=options["idempotency_key"],
                    tenant=_find_tenant(options["tenant"]),
                )
                if options["wait"]:
                    self.show(workflows.wait(run.pk, options["timeout"]))
                else:
                    self.stdout.write(run.pk)
            except ApiManagerError as error:
                raise CommandError(error.message) from None

    def show(self, run: WorkflowRun) -> None:
        """Print what a run came to, and what it hands over. Raises `CommandError` where it was not successful."""
        status = workflows.status_of(run)
        if run.state not in FINISHED:
            raise CommandError(f"{run.pk} is still {status}: does a worker run?")
        if status != RunStatus.SUCCEEDED:
            raise CommandError(f"{run.pk} is {status}: {run.error_message}")
        facts = {"run_id": run.pk, "result": workflows.result_of(run)}
        if run.hands_over:
            facts["handed_over"] = workflows.take_over(run)
        self.stdout.write(json.dumps(facts, indent=2, ensure_ascii=False))


def _read(text: str) -> dict[str, Any]:
    try:
        given = json_input.load(_bytes(text))
    except InvalidInput as error:
        raise CommandError(f"--input: {error.message.replace('The body', 'it')}") from None
    if not isinstance(given, dict):
        raise CommandError("--input is not a JSON object.")
    return given


def _bytes(text: str) -> bytes:
    if text == "@-":
        return sys.stdin.buffer.read()
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise CommandError(f"{text[1:]}: {error.strerror}") from None


def _find_tenant(reference: str | None) -> str | None:
    if reference is None:
        return None
    rows = Tenant.objects.filter(Q(pk=reference) | Q(slug=reference)) if can_name(reference) else Tenant.objects.none()
    found = rows.values_list("pk", flat=True).first()
    if found is None:
        raise NotFound(f"Tenant {reference!a} not found")
    return str(found)

"""``manage.py webhooks``: list and show what came in, why others were refused, replay, and send oneself a test."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

import requests
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from connections.models import EventStatus, WebhookEvent, WebhookRefusal
from connections.webhooks.inbound import lookup
from connections.webhooks.inbound.addresses import receiving_url
from connections.webhooks.inbound.events import delivery_of, shown
from connections.webhooks.inbound.replay import replay
from connections.webhooks.inbound.summary import explain
from connections.webhooks.inbound.trying import prepare
from external_apis import providers, request_context
from external_apis.errors import ApiManagerError
from external_apis.ids import first_id
from external_apis.management.tables import print_table

_EVENTS = ("id", "provider", "type", "event id", "status", "attempts", "received")
_REFUSALS = ("provider", "reason", "count", "last", "explanation")
_TIMEOUT_SECONDS = 15
_CLOCKS = timedelta(minutes=5)
"""So much may the clocks of this machine and of the web process differ."""


class Command(BaseCommand):
    help = "List webhooks that came in, show one, replay it, tell why others were refused, or send oneself a test."

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        listing = commands.add_parser("list", help="list them, the latest first")
        listing.add_argument("--provider", metavar="SLUG")
        listing.add_argument("--status", choices=EventStatus.values)
        listing.add_argument("--limit", type=int, default=100)
        show = commands.add_parser("show", help="show one as JSON, with its payload and what became of its handlers")
        show.add_argument("id")
        again = commands.add_parser("replay", help="process one once more: of a dead one what failed, else all of it")
        again.add_argument("id")
        commands.add_parser("refused", help="list why webhooks were refused, the latest first")
        test = commands.add_parser("send-test", help="sign an event as the provider would, and post it to ourselves")
        test.add_argument("provider", help="slug or id")
        test.add_argument("type", help="of the event, such as invoice.paid")
        test.add_argument("--data", default="{}", metavar="JSON", help="what else is to stand in its body")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["command"].replace("-", "_")
        with request_context.acting(f"command:webhooks {options['command']}"):
            try:
                getattr(self, name)(options)
            except ApiManagerError as error:
                raise CommandError(error.message) from None

    def list(self, options: dict[str, Any]) -> None:
        rows = lookup.visible().defer("content")
        if options["provider"]:
            rows = rows.filter(external_api__slug=options["provider"])
        if options["status"]:
            rows = rows.filter(status=options["status"])
        print_table(
            self.stdout,
            _EVENTS,
            [
                (
                    row.pk,
                    row.external_api.slug,
                    row.event_type,
                    row.event_id,
                    row.status,
                    str(row.attempts),
                    f"{row.received_at:%Y-%m-%d %H:%M:%S}",
                )
                for row in rows[: max(options["limit"], 0)]
            ],
        )

    def show(self, options: dict[str, Any]) -> None:
        row = lookup.find(options["id"])
        facts = {
            "id": row.pk,
            "provider": row.external_api.slug,
            "event_id": row.event_id,
            "event_type": row.event_type,
            "status": row.status,
            "attempts": row.attempts,
            "received_at": row.received_at.isoformat(),
            "next_attempt_at": row.due_at and row.due_at.isoformat(),
            "results": row.results,
            "payload": shown(delivery_of(row)),
        }
        self.stdout.write(json.dumps(facts, indent=2))

    def replay(self, options: dict[str, Any]) -> None:
        row = replay(lookup.find(options["id"]))
        self.stdout.write(f"{row.pk} is processed once more.")

    def refused(self, options: dict[str, Any]) -> None:
        rows = WebhookRefusal.objects.select_related("external_api")[:100]
        print_table(
            self.stdout,
            _REFUSALS,
            [
                (
                    row.external_api.slug,
                    row.reason,
                    str(row.count),
                    f"{row.last_at:%Y-%m-%d %H:%M:%S}",
                    row.explanation,
                )
                for row in rows
            ],
        )

    def send_test(self, options: dict[str, Any]) -> None:
        """The body is made of the scheme's own places for id and type; what a real one holds else is left out."""
        try:
            data = json.loads(options["data"])
        except ValueError:
            raise CommandError("--data is not JSON.") from None
        if not isinstance(data, dict):
            raise CommandError("--data is not a JSON object.")
        api = providers.find_by_id_or_slug(options["provider"])
        url = receiving_url(api)
        prepared = prepare(api, options["type"], url, data)
        # To this machine, past the proxy in front; the signature is that of the public address.
        local = f"http://127.0.0.1:{settings.PORT}{url.removeprefix(settings.PUBLIC_BASE_URL)}"
        request_id, began = request_context.current().request_id, timezone.now()
        headers = {**prepared.headers, "X-Request-Id": request_id}
        with requests.Session() as session:
            session.trust_env = False
            try:
                answer = session.post(local, prepared.body, headers=headers, timeout=_TIMEOUT_SECONDS)
            except requests.RequestException as error:
                raise CommandError(f"Nobody answers at {local} ({type(error).__name__}).") from None
        self.stdout.write(f"{url} answered {answer.status_code}.")
        if not answer.ok:
            raise CommandError("It was refused: manage.py webhooks refused tells why.")
        rows = WebhookEvent.objects.filter(external_api=api, id__gte=first_id("wev", began - _CLOCKS))
        row = rows.filter(request_id=request_id).first()
        if row is None:
            self.stdout.write("It is known already, and changes nothing.")
        else:
            self.stdout.write(f"It is {row.pk}: {row.status}{', ' if explain(row) else ''}{explain(row)}.")

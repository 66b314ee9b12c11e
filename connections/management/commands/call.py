"""``manage.py call stripe/default GET /balance``: call a provider from a shell, as code does."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import requests
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q

from connections.client import ApiClient, Event
from connections.services import get_api_client
from external_apis import json_input, request_context
from external_apis.errors import ApiManagerError, NotFound, UpstreamError
from external_apis.models import Environment, Partner, Tenant


class Command(BaseCommand):
    help = "Call a provider through a stored connection and print the answer's body; -v 2 shows every attempt."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("connection", help="provider/connection, a provider's slug, or a connection's id")
        parser.add_argument("method", type=str.upper, help="GET, POST, …")
        parser.add_argument("path", help="what is appended to the provider's base URL, such as /balance")
        body = parser.add_mutually_exclusive_group()
        body.add_argument(
            "--data", "-d", action="append", type=_pair, metavar="K=V", help="a field of the body; repeat it at will"
        )
        body.add_argument("--json", "-j", metavar="JSON|@FILE|@-", help="the body as JSON, from a file, or from stdin")
        parser.add_argument("--query", "-q", action="append", type=_pair, metavar="K=V", help="a query parameter")
        parser.add_argument("--header", "-H", action="append", type=_header, metavar="NAME:VALUE", help="a header")
        parser.add_argument(
            "--dry-run", action="store_true", help="print the call as a curl command without its secrets; send nothing"
        )
        parser.add_argument("--environment", choices=Environment.values)
        parser.add_argument("--tenant", help="the tenant that calls, by id or slug")
        parser.add_argument("--partner", help="the partner that calls, by id or slug")

    def handle(self, *args: Any, **options: Any) -> None:
        with request_context.acting("command:call"):
            try:
                tenant = _find(Tenant, options["tenant"])
                client = get_api_client(
                    options["connection"],
                    environment=options["environment"],
                    tenant=tenant,
                    partner=_find(Partner, options["partner"], Q(tenant=None) | Q(tenant=tenant)),
                )
                if options["dry_run"]:
                    self.stdout.write(self.describe(client, options))
                    return
                response = self.call(client, options)
            except ApiManagerError as error:
                raise CommandError(error.message) from None
        self.print_body(response)
        if not 200 <= response.status_code < 300:
            raise CommandError(f"The provider answered {response.status_code} {response.reason}".rstrip())

    def describe(self, client: ApiClient, options: dict[str, Any]) -> str:
        return client.dry_run(options["method"], options["path"], **_arguments(options))

    def call(self, client: ApiClient, options: dict[str, Any]) -> requests.Response:
        """Make the call; raises as `ApiClient` does."""
        if options["verbosity"] > 1:
            client.on_event = self.show
        try:
            return client.request(options["method"], options["path"], **_arguments(options))
        except UpstreamError as error:
            if options["verbosity"] > 1 and error.body:
                self.stderr.write(_printable(_without(client.target.secrets(), error.body.decode(errors="replace"))))
            raise

    def show(self, event: Event) -> None:
        """Tell of one step of the call on stderr."""
        request = event.request
        if request is not None:
            self.stderr.write(f"> {event.kind} {event.attempt}: {request.method} {request.url}")
            for name, value in request.headers.items():
                self.stderr.write(f">   {name}: {value}")
            if request.body_bytes:
                self.stderr.write(f">   ({request.body_bytes} bytes of body)")
        elif event.kind == "wait":
            self.stderr.write(f"* wait {event.seconds:.2f} s ({event.reason})")
        elif event.kind == "answer":
            self.stderr.write(f"< {event.status} after {event.seconds * 1000:.0f} ms")
        elif event.kind == "refresh":
            self.stderr.write("* refreshed the credential")
        elif event.kind == "failure":
            self.stderr.write(f"! attempt {event.attempt}: {event.reason}")

    def print_body(self, response: requests.Response) -> None:
        """Print for a reader on a terminal, and byte for byte into a pipe or file."""
        if self.stdout.isatty():
            self.stdout.write(_printable(_pretty(response)))
        elif (buffer := getattr(self.stdout, "buffer", None)) is not None:
            buffer.write(response.content)
            buffer.flush()
        else:
            self.stdout.write(response.text, ending="")


def _find(model: Any, reference: str | None, among: Q | None = None) -> str | None:
    if reference is None:
        return None
    found: list[str] = list(
        model.objects.filter(among or Q(), Q(pk=reference) | Q(slug=reference)).values_list("pk", flat=True)[:2]
    )
    if len(found) != 1:
        name = model._meta.verbose_name.capitalize()
        raise NotFound(f"{name} {reference} not found" if not found else f"{name} {reference} is ambiguous: use its id")
    return found[0]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ArgumentTypeError(f"{name!r} is not NAME=VALUE")
    return name, value


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ArgumentTypeError("a header is NAME:VALUE")
    return name.strip(), value.strip()


def _arguments(options: dict[str, Any]) -> dict[str, Any]:
    arguments = {"params": options["query"] or None, "headers": dict(options["header"] or ())}
    if options["json"] is not None:
        arguments["json"] = json_input.load(_read(options["json"]))
    if options["data"]:
        arguments["data"] = _gathered(options["data"])
    return arguments


def _gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """A field that is given several times is a list."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name not in fields:
            fields[name] = value
        else:
            fields[name] = [*(fields[name] if isinstance(fields[name], list) else [fields[name]]), value]
    return fields


def _read(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    if text == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise CommandError(f"{text[1:]}: {error.strerror}") from None


def _pretty(response: requests.Response) -> str:
    try:
        return json.dumps(response.json(), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return response.text


def _printable(text: str) -> str:
    """A provider's answer must not steer the terminal."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def _without(secrets: Iterable[str], text: str) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "[redacted]")
    return text

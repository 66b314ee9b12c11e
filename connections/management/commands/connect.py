"""``manage.py connect stripe``: connect an account from a terminal, by device code or in a browser."""

from __future__ import annotations

import getpass
import time
from argparse import ArgumentParser
from secrets import token_urlsafe
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q

from connections import connecting, lookup
from connections.models import ExternalApiConnection, OAuthFlow
from connections.oauth.device import has_device_code
from external_apis import request_context
from external_apis.errors import ApiManagerError, NotFound
from external_apis.models import Account, ExternalApi, Partner, Tenant
from external_apis.providers import find_by_id_or_slug, open_config

_POLL_SECONDS = 1.0


class Command(BaseCommand):
    help = "Connect an account of a provider with OAuth, while the server runs; Ctrl-C gives up."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("provider", help="a provider's slug or id")
        parser.add_argument("--connection", help="authorise this connection again, by id or slug, instead of a new one")
        parser.add_argument("--name", help="what the new connection is called; unless given, as its provider")
        parser.add_argument("--tenant", help="whose it is, by id or slug")
        parser.add_argument("--partner", help="whose it is, by id or slug")
        parser.add_argument("--user", help="whose it is, by the account's id or the user's name")
        parser.add_argument(
            "--set", action="append", default=[], metavar="NAME=VALUE", help="a part of the provider's URLs"
        )
        parser.add_argument("--browser", action="store_true", help="use a browser, though there is a device code")

    def handle(self, *args: Any, **options: Any) -> None:
        with request_context.acting("command:connect"):
            try:
                self._connect(options)
            except ApiManagerError as error:
                raise CommandError(error.message) from None
            except KeyboardInterrupt:
                raise CommandError("Given up; nothing was changed.", returncode=130) from None

    def _connect(self, options: dict[str, Any]) -> None:
        api = find_by_id_or_slug(options["provider"])
        wish = _read_wish(api, options)
        if has_device_code(open_config(api).api_config) and not options["browser"]:
            row = self._by_device(wish)
        else:
            row = self._by_browser(wish)
        self.stdout.write(f"Connected: {api.slug}/{row.slug} ({row.pk})")

    def _by_device(self, wish: connecting.Wish) -> ExternalApiConnection:
        flow, code = connecting.begin_device(wish)
        self.stdout.write(f"Open {code.verification_uri} in any browser and enter the code {code.user_code}")
        if code.complete_uri:
            self.stdout.write(f"or open {code.complete_uri}")
        self.stdout.flush()
        return connecting.finish_device(flow, code, sleep=time.sleep)

    def _by_browser(self, wish: connecting.Wish) -> ExternalApiConnection:
        url = connecting.begin_flow(wish)
        self.stdout.write(f"Open this address in a browser on this machine, within ten minutes:\n{url}")
        self.stdout.flush()
        flow = OAuthFlow.objects.select_related("external_api", "connection", "tenant").get(bound_to=wish.bound_to)
        while (row := connecting.collect(flow, [wish.bound_to])) is None:
            time.sleep(_POLL_SECONDS)
        return row


def _read_wish(api: ExternalApi, options: dict[str, Any]) -> connecting.Wish:
    bound_to = f"terminal:{_login_name()}:{token_urlsafe(32)}"
    if options["connection"]:
        return connecting.Wish(api, bound_to, lookup.find_of_provider(api, options["connection"]))
    pairs = [pair.partition("=") for pair in options["set"]]
    body = {
        "connection_name": options["name"],
        "sales_channel_id": _find(Tenant, Q(slug=options["tenant"]), options["tenant"]),
        "partner_id": _find(Partner, Q(slug=options["partner"]), options["partner"]),
        "user_id": _find(Account, Q(user__username=options["user"]), options["user"]),
        "provider_data": {name: value for name, _, value in pairs},
    }
    return connecting.Wish(api, bound_to, None, body)


def _login_name() -> str:
    """Who is at the terminal, for whoever is asked in the browser; empty where the system has no name."""
    try:
        return getpass.getuser()[:40]
    except (KeyError, OSError):
        return ""


def _find(model: Any, named: Q, reference: str | None) -> str | None:
    if reference is None:
        return None
    found = list(model.objects.filter(Q(pk=reference) | named)[:2])
    if len(found) != 1:
        problem = "is ambiguous: name it by its id" if found else "not found"
        raise NotFound(f"{model._meta.verbose_name.capitalize()} {reference} {problem}")
    return str(found[0].pk)

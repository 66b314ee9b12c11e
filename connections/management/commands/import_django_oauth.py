"""``manage.py import_django_oauth``: connections from the tables of social-auth-app-django and django-allauth."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction

from connections.imports import dotenv, runs
from connections.imports.commands import ImportCommand, Outcome, UsageError, given_url
from connections.imports.django_oauth import write_back_rows
from connections.imports.django_oauth.batches import Importer
from connections.imports.django_oauth.clients import Clients
from connections.imports.django_oauth.importing import Plan, import_tables, look
from connections.imports.django_oauth.old_database import OWN, Address
from connections.imports.django_oauth.providers import Providers
from connections.imports.django_oauth.tally import Tally
from connections.imports.django_oauth.users import Users
from connections.models import ImportKind
from external_apis.errors import InvalidInput

_WARNING = """\
--write-back: each renewed token is also written into the old tables, IN CLEAR, as they hold all tokens. Whoever reads
that database, or a backup of it, can use them. End it with --release as soon as nothing reads them there any more."""
_ALL = "all"


class Command(ImportCommand):
    help = (
        "Import the OAuth tokens of social-auth-app-django and django-allauth as connections of their users. From then "
        "on they are renewed here, and may be renewed nowhere else."
    )
    kind = ImportKind.DJANGO_OAUTH

    def add_source_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--database-url",
            metavar="URL|@FILE|@-",
            help="the PostgreSQL database of the old tables, perhaps in a file or on stdin; unless given, our own",
        )
        parser.add_argument("--file", metavar=".env", help="where SOCIAL_AUTH_<NAME>_KEY and _SECRET stand")
        parser.add_argument(
            "--provider", action="append", default=[], metavar="NAME=SLUG", help="their provider NAME is SLUG here"
        )
        parser.add_argument(
            "--users-by", choices=("email", "username"), default="email", help="how their users are found here"
        )
        parser.add_argument(
            "--trust-emails", action="store_true", help="find users also by addresses that allauth has not verified"
        )
        parser.add_argument("--create-users", action="store_true", help="make users who are not here, without rights")
        parser.add_argument(
            "--write-back", action="store_true", help="also write renewed tokens, in clear, to the old rows"
        )
        parser.add_argument("--yes", action="store_true", help="with --write-back: do not ask")
        parser.add_argument(
            "--release", nargs="?", const=_ALL, metavar="RUN", help="end the write-back of a run, or of all"
        )

    def check_options(self, options: Mapping[str, Any]) -> None:
        if options["write_back"] and not self.is_applied:
            raise UsageError("--write-back goes with --apply.")
        if options["release"] and self.is_applied:
            raise UsageError("--release and --apply do not go together.")
        for pair in options["provider"]:
            name, _, slug = pair.partition("=")
            if not name or not slug:
                raise UsageError(f"--provider {pair!a} is not NAME=SLUG.")

    def import_all(self, options: Mapping[str, Any]) -> Outcome:
        if options["release"]:
            return self._release(options["release"])
        address = OWN if options["database_url"] is None else Address.parse(given_url(options["database_url"]))
        mapping = dict(pair.split("=", 1) for pair in options["provider"])
        clients = Clients(_variables(options["file"]))
        providers = Providers(self.tenant, mapping, clients)
        providers.check()
        if options["write_back"]:
            self._agree(is_agreed=options["yes"])
        plan = look(address)
        if options["write_back"]:
            _require_writable(plan)
        is_own = address == OWN
        users = Users(
            self.tenant,
            by=options["users_by"],
            creates=options["create_users"],
            is_own_database=is_own,
            trusts=options["trust_emails"],
        )
        begin = runs.begin if self.is_applied else runs.preview
        run = begin(self.kind, address.describe(), identity=plan.identity, tenant=self.tenant)
        others = runs.origins_for_others(run, plan.identity)
        importer = Importer(run, providers, users, Tally(), self.is_applied, is_own, others)
        before = Counter(run.counts)
        with self.meter("tokens", plan.total, already=before.total()) as meter:
            apps = [*plan.apps, *clients.named()]
            is_wanted = options["write_back"]
            import_tables(importer, address, plan.tables, apps, meter=meter, stop=self.stop, writes_back=is_wanted)
        tally, targets = importer.tally, providers.targets
        return Outcome(
            before + tally.counts,
            run if self.is_applied else None,
            tally.facts(targets, plan.notes),
            tally.lines(targets, plan.notes, is_applied=self.is_applied),
        )

    def _agree(self, *, is_agreed: bool) -> None:
        """Say loudly what is about to be done, and go on only with a yes."""
        for line in _WARNING.splitlines():
            self.warn(line)
        if is_agreed:
            return
        if sys.stdin is None or not sys.stdin.isatty():
            raise UsageError("--write-back wants --yes where nobody can be asked.")
        if _ask("Type 'in clear' to go on: ") != "in clear":
            raise InvalidInput("Nothing was imported.")

    def _undo(self, run_id: str) -> None:
        super()._undo(run_id)
        with transaction.atomic():
            is_forgotten = write_back_rows.forget_unused(runs.find(run_id, self.kind))
        if is_forgotten:
            self.say("Nothing is left to be written back: the old database's URL was forgotten.")

    def _release(self, reference: str) -> Outcome:
        with transaction.atomic():
            run = None if reference == _ALL else runs.find(reference, self.kind)
            rows, pending = write_back_rows.release(run)
        self.is_applied = True
        line = f"{rows:,} old rows are not written any more."
        if pending:
            line += f" {pending:,} of them do not hold the newest tokens."
        return Outcome({"released": rows}, None, {"pending": pending}, [line])


def _ask(question: str) -> str:
    """Return what somebody types; the first Ctrl-C ends the command here, and Ctrl-D types nothing."""
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return input(question).strip()
    except EOFError:
        return ""
    finally:
        signal.signal(signal.SIGINT, heard)


def _require_writable(plan: Plan) -> None:
    for table in plan.tables:
        if not table.is_lockable:
            raise InvalidInput(f"--write-back: the database URL's user may not UPDATE {table.table}.")


def _variables(path: str | None) -> dict[str, str]:
    return {} if path is None else dotenv.read(Path(path)).values

"""Decides what becomes of a batch of old rows, and stores it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from django.utils import timezone

from connections.imports import refresh_tokens, runs
from connections.imports.django_oauth import digests, providers, users, write_back_rows
from connections.imports.django_oauth.old_rows import OldApp, OldClient, OldRow, OldUser
from connections.imports.django_oauth.providers import Providers, Target
from connections.imports.django_oauth.tally import Tally
from connections.imports.django_oauth.users import Found, Users
from connections.imports.living import living
from connections.imports.runs import Imported
from connections.imports.storing import store
from connections.models import (
    ConnectionStatus,
    ExternalApiConnection,
    ExternalApiCredential,
    ImportedRow,
    ImportOutcome,
    ImportRun,
    OldDatabase,
)
from connections.oauth import grants
from connections.oauth.commits import put_tokens
from connections.opening import can_be_renewed
from external_apis.api_config import url_values
from external_apis.errors import InvalidInput
from external_apis.sign_on.provider import StaffProvider

__all__ = ["Importer"]

_CONNECTION = "externalapiconnection"
_ENDED = "The access token had ended when it was imported, and nothing can renew it."
_ONE_SYSTEM = "of two that renew one token one loses: delete that connection first"
_Place = tuple[str, str | None, str]


@dataclass
class _Batch:
    rows: Sequence[OldRow]
    known: Mapping[tuple[str, str], ImportedRow]
    targets: Mapping[str, Target]
    """Where each row goes that was not imported before."""
    found: Mapping[OldUser, Found]
    stored: Mapping[str, ExternalApiConnection]
    """What was imported before and lives, by id."""
    made: list[Imported]
    taken: dict[_Place, dict[str, str]] = field(default_factory=dict)
    """Slugs, and the accounts at the provider behind them, of each provider, tenant and user."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """What was imported for another tenant and lives, by source key."""
    holders: dict[str, str] = field(default_factory=dict)
    """Which living connection came with a refresh token, by the token's digest."""
    new: list[tuple[OldRow, ExternalApiConnection]] = field(default_factory=list)
    again: list[tuple[OldRow, ExternalApiConnection]] = field(default_factory=list)
    """What was imported before, and is no conflict."""


@dataclass(frozen=True)
class Importer:
    """Takes batches, each in a transaction that the caller opens, in which no other import stores. Without `is_applied`
    what is new is stored as well, and the caller rolls it back. ``other_origins`` are those of the same
    database for other tenants."""

    run: ImportRun
    providers: Providers
    users: Users
    tally: Tally
    is_applied: bool
    is_own_database: bool
    other_origins: Sequence[str]

    def take(self, rows: Sequence[OldRow], old_database: OldDatabase | None = None) -> list[Imported]:
        """Decide and store; return what was made, for the run. A fixed number of queries, and those of new providers
        and of rows whose tokens the old system has changed. Renewed tokens are written back to an ``old_database``."""
        batch = self._load(rows)
        for row in rows:
            outcome, reason = self._decide(row, batch)
            self.tally.add(outcome, row, reason)
        store([connection for _, connection in batch.new])
        if old_database is not None:
            write_back_rows.begin(old_database, batch.new, batch.again)
        return batch.made

    def take_apps(self, apps: Iterable[OldApp]) -> list[Imported]:
        """Find or make the providers of registered clients, whether or not there are tokens of them."""
        made: list[Imported] = []
        for app in apps:
            self._target(app.kind, app.provider, app.client, made)
        return made

    def _load(self, rows: Sequence[OldRow]) -> _Batch:
        people = list(dict.fromkeys(row.user for row in rows if row.user is not None))
        keys = [row.source_key for row in rows] + [users.source_key(user) for user in people]
        known = runs.known(self.run, keys)
        ids = [imported.object_id for (_, kind), imported in known.items() if kind == _CONNECTION]
        alive = ExternalApiConnection.objects.filter(deleted_at=None, external_api__deleted_at=None)
        # Whoever revokes one meanwhile, or renews its tokens, comes before or after; a dry run holds nobody up.
        stored = alive.select_for_update(of=("self",), no_key=True).order_by("pk") if self.is_applied else alive
        paths = ("external_api", "credential", "grant", "write_back")
        names = {source_key for source_key, _ in known}
        new = [row for row in rows if row.tokens and row.source_key not in names]
        made: list[Imported] = []
        targets = {row.source_key: self._target(row.kind, row.provider, row.client, made) for row in new}
        people = [row.user for row in new if row.user is not None and not _problem(row, targets[row.source_key])]
        found, made_users = self.users.find(people, names)
        made += made_users
        batch = _Batch(rows, known, targets, found, stored.select_related(*paths).in_bulk(ids), made)
        self._load_places(batch)
        if new:
            batch.elsewhere = self._elsewhere([row.source_key for row in new])
            batch.holders = refresh_tokens.holders([_token_digest(row) for row in new])
        return batch

    def _elsewhere(self, keys: Sequence[str]) -> Mapping[str, str]:
        rows = ImportedRow.objects.filter(origin__in=self.other_origins, source_key__in=keys, object_type=_CONNECTION)
        return living(rows, "source_key")

    def _load_places(self, batch: _Batch) -> None:
        accounts = {one.account.pk for one in batch.found.values() if one.account is not None}
        rows = ExternalApiConnection.objects.filter(user_id__in=accounts, deleted_at=None, partner=None)
        for row in rows.only("external_api_id", "tenant_id", "user_id", "slug", "provider_data"):
            place = (row.external_api_id, row.tenant_id, str(row.user_id))
            batch.taken.setdefault(place, {})[row.slug] = str(row.provider_data.get("uid", ""))

    def _decide(self, row: OldRow, batch: _Batch) -> tuple[str, str]:
        """Return what becomes of a row, and why where it is not imported."""
        if self.is_own_database and row.provider == StaffProvider.name and row.tokens is None:
            return "skipped", "it is somebody's own sign-in to this product"
        if row.tokens is None:
            return "failed", row.problem
        imported = batch.known.get((row.source_key, _CONNECTION))
        if imported is not None:
            return self._compare(row, imported, batch)
        target = batch.targets[row.source_key]
        if problem := _problem(row, target):
            return "failed", f"{row.provider}: {problem}"
        found = batch.found.get(row.user) if row.user is not None else None
        if found is None or found.problem:
            return "failed", found.problem if found else "its user does not exist there"
        if row.source_key in batch.elsewhere:
            return "failed", f"it was imported for another tenant, or for all, and {_ONE_SYSTEM}"
        try:
            return self._draft(row, target, found, batch)
        except InvalidInput as error:
            return "failed", f"{target.slug}: {error.message}"

    def _draft(self, row: OldRow, target: Target, found: Found, batch: _Batch) -> tuple[str, str]:
        assert target.api is not None and target.config is not None  # noqa: S101, PT018 (tells the type checker)
        assert row.tokens is not None and found.account is not None and row.user is not None  # noqa: S101, PT018
        tenant_id = self.run.tenant_id or target.api.tenant_id or found.account.tenant_id
        place = (target.api.pk, tenant_id, found.account.pk)
        taken = batch.taken.setdefault(place, {})
        if row.uid in taken.values():
            return "skipped", f"{target.slug}: its user is connected with the same account already"
        token_digest = _token_digest(row)
        if token_digest in batch.holders:
            return "failed", f"another connection here came with the same refresh token, and {_ONE_SYSTEM}"
        data = {**row.tokens.provider_data, "uid": row.uid}
        url_values(target.config, data)
        who = row.user.username or row.user.email or row.uid
        connection = ExternalApiConnection(
            external_api=target.api,
            tenant_id=tenant_id,
            user=found.account,
            connection_name=f"{target.api.name} of {who}"[:200],
            slug=_free_slug(row.uid, taken),
            provider_data=data,
        )
        credential = ExternalApiCredential(connection=connection, tenant_id=tenant_id)
        put_tokens(credential, row.tokens)
        ends_at = row.tokens.expires_at
        if ends_at is not None and ends_at <= timezone.now() and not can_be_renewed(connection):
            connection.status, connection.error_message = ConnectionStatus.EXPIRED, _ENDED
        taken[connection.slug] = row.uid
        if token_digest:
            batch.holders[token_digest] = connection.pk
        batch.new.append((row, connection))
        batch.made.append(_imported(row, connection, tenant_id))
        return "created", ""

    def _compare(self, row: OldRow, imported: ImportedRow, batch: _Batch) -> tuple[str, str]:
        """Notice whether the old system has changed the tokens of a row that was imported before."""
        connection = batch.stored.get(imported.object_id)
        if connection is None:
            return "skipped", "it was imported before and deleted here"
        if connection.status == ConnectionStatus.REVOKED:
            return "skipped", "it was imported before and revoked here"
        assert row.tokens is not None  # noqa: S101 (tells the type checker)
        there = digests.plain(row.tokens)
        here = digests.plain_of_stored(connection.credential.secrets)
        is_as_it_was = digests.is_of(imported.source_digest, there, connection.tenant_id)
        if is_as_it_was or there == here or there in write_back_rows.standing(connection):
            batch.again.append((row, connection))
            error = write_back_rows.error_of(connection)
            return "recognised", f"its write-back: {error}" if error else ""
        if not digests.is_of(imported.source_digest, here, connection.tenant_id):
            return "failed", (
                "the old system has stored other tokens since, and they were renewed here as well: two systems renew "
                "them. Ours were kept"
            )
        if self.is_applied:
            connection = grants.store_tokens(connection, row.tokens, cause="import")
            batch.made.append(_imported(row, connection, connection.tenant_id, ImportOutcome.UPDATED))
            batch.again.append((row, connection))
        return "updated", ""

    def _target(self, kind: str, name: str, client: OldClient | None, made: list[Imported]) -> Target:
        target, new = self.providers.find(kind, name, client, self._known_providers)
        made += new
        return target

    @cached_property
    def _known_providers(self) -> frozenset[str]:
        keys = ImportedRow.objects.filter(origin=self.run.origin, source_key__startswith=providers.source_key(""))
        return frozenset(keys.values_list("source_key", flat=True))


def _imported(
    row: OldRow,
    connection: ExternalApiConnection,
    tenant_id: str | None,
    outcome: str = ImportOutcome.CREATED,
) -> Imported:
    assert row.tokens is not None  # noqa: S101 (tells the type checker)
    digest = digests.keyed(digests.plain(row.tokens), tenant_id)
    return Imported(row.source_key, connection, connection.credential, outcome, digest, _token_digest(row))


def _token_digest(row: OldRow) -> str:
    return refresh_tokens.digest(row.tokens.refresh_token) if row.tokens is not None else ""


def _problem(row: OldRow, target: Target) -> str:
    if target.problem:
        return target.problem
    is_oauth1 = row.tokens is not None and row.tokens.token_secret is not None
    if is_oauth1 == (target.auth_type == "oauth1"):
        return ""
    return f"its token is none of OAuth {'2.0' if is_oauth1 else '1.0a'}, which {target.slug} here speaks"


def _free_slug(uid: str, taken: Mapping[str, str]) -> str:
    """``default`` for a user's first account at a provider, then one made of the account's id there."""
    if "default" not in taken:
        return "default"
    base = re.sub(r"[^a-z0-9]+", "-", uid.lower()).strip("-")[:90] or "account"
    numbered = (base if number == 1 else f"{base}-{number}" for number in range(1, len(taken) + 3))
    return next(slug for slug in numbered if slug not in taken)

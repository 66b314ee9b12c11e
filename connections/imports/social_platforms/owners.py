"""For whom an old row is: the tenants, partners and users here that the old ids stand for.

An old id is translated by ``--map OLD=NEW`` where that names it; then it is the id of a row here, the slug of a tenant
or partner, or the name or e-mail address of a user. An old e-mail address is nothing but one, unless it is translated:
users may be called as others' addresses are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from django.contrib.auth import get_user_model
from django.db.models import Q

from connections.imports.addresses import folded, folding
from connections.imports.social_platforms.old_rows import OldRow
from connections.imports.social_platforms.refusals import refused
from external_apis.errors import InvalidInput
from external_apis.models import Account, Partner, Tenant

__all__ = ["Owner", "Owners"]

UNKNOWN_OWNER = "of a tenant or partner that is not here"
UNKNOWN_USER = "of a user who is not here: imported for everybody who may use the provider"


@dataclass(frozen=True)
class Owner:
    tenant: Tenant | None = None
    partner: Partner | None = None
    user: Account | None = None
    notes: tuple[str, ...] = ()


class Owners:
    """Finds owners batch by batch. Everything belongs to ``tenant`` where one is given."""

    def __init__(self, tenant: Tenant | None, names: Mapping[str, str]) -> None:
        self._tenant, self._names = tenant, names
        self._tenants: dict[str, Tenant] = {}
        self._partners: dict[str, list[Partner]] = {}
        self._users = _Users(())

    def look_up(self, rows: Iterable[OldRow]) -> None:
        """Load what these rows name, in at most three queries; what was loaded before is let go of."""
        rows = list(rows)
        tenants, partners = (
            {self._here(name) for row in rows for name in _named(row, column)}
            for column in ("sales_channel_id", "partner_id")
        )
        users = {self._here(name) for row in rows for name in _named(row, "user_id", "user_email")}
        self._tenants, self._partners, self._users = {}, {}, _Users(users)
        if tenants and self._tenant is None:
            for tenant in Tenant.objects.filter(Q(pk__in=tenants) | Q(slug__in=tenants)):
                self._tenants |= {tenant.slug: tenant, tenant.pk: tenant}
        if partners:
            for partner in Partner.objects.filter(Q(pk__in=partners) | Q(slug__in=partners)):
                for name in (partner.pk, partner.slug):
                    self._partners.setdefault(name, []).append(partner)

    def of(self, row: OldRow) -> Owner:
        """Return a row's owner.

        Raises `InvalidInput` for a tenant or partner that is not here, and for an owner that is no text: imported
        without, others would see the row. A user who is not here is noted.
        """
        tenant, notes = self._tenant, []
        if tenant is None and (old := row.column("sales_channel_id")):
            tenant = self._tenants.get(self._here(old))
            if tenant is None:
                raise refused(UNKNOWN_OWNER, f"sales channel {old} is no tenant here: --map {old}=SLUG, or --tenant")
        partner = None
        if old := row.column("partner_id"):
            fitting = (None, tenant.pk if tenant else None)
            partner = next((one for one in self._partners.get(self._here(old), ()) if one.tenant_id in fitting), None)
            if partner is None:
                raise refused(UNKNOWN_OWNER, f"partner {old} is none of its tenant's here: --map {old}=SLUG")
        user_id, email = row.column("user_id"), row.column("user_email")
        user = self._users.find(self._here(user_id)) or self._users.find(
            self._here(email), is_address=email not in self._names
        )
        if user is not None and user.tenant_id not in (None, tenant.pk if tenant else None):
            user = None
        if (user_id or email) and user is None:
            notes.append(UNKNOWN_USER)
        return Owner(tenant, partner, user, tuple(notes))

    def _here(self, old: str) -> str:
        return self._names.get(old, old)


class _Users:
    """Accounts of users here, loaded by all that may name one, in one query."""

    def __init__(self, names: Collection[str]) -> None:
        self._by_name: dict[str, set[Account]] = {}
        self._by_address: dict[str, set[Account]] = {}
        self._email_field = get_user_model().get_email_field_name()
        if not names:
            return
        model = get_user_model()
        is_named = Q(pk__in=names) | Q(**{f"user__{model.USERNAME_FIELD}__in": names})
        rows = Account.objects.select_related("user").annotate(address=folding(f"user__{self._email_field}"))
        for account in rows.filter(is_named | Q(address__in=set(map(folded, names)))):
            for name in (account.pk, str(account.user.get_username())):
                self._by_name.setdefault(name, set()).add(account)
            self._by_address.setdefault(folded(self._address_of(account)), set()).add(account)

    def find(self, name: str, *, is_address: bool = False) -> Account | None:
        """Return the only account of that id, name or e-mail address, or of the address alone: letter for letter, or
        else in any case."""
        if not name:
            return None
        in_any_case = self._by_address.get(folded(name), set())
        found = {account for account in in_any_case if self._address_of(account) == name} or in_any_case
        if not is_address:
            found = found | self._by_name.get(name, set())
        return next(iter(found)) if len(found) == 1 else None

    def _address_of(self, account: Account) -> str:
        return getattr(account.user, self._email_field) or ""


def _named(row: OldRow, *columns: str) -> Iterator[str]:
    """What columns name, where that is a text; where it is none `Owners.of` refuses the row."""
    for column in columns:
        with suppress(InvalidInput):
            if name := row.column(column):
                yield name

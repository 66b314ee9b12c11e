"""Delete a user for good, once nothing depends on them any more: what does is reported, or given to somebody else.

What depends is found in the tables' own keys, so that those of the upper floor and of a project count as well. A row
that its key deletes along (a link that was sent, a membership, the tokens' ledger) goes with the user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import copy
from typing import Any

from django.contrib.auth import get_user_model
from django.db import IntegrityError, models, transaction
from django.db.models import ProtectedError, RestrictedError

from external_apis import audit, request_context
from external_apis.backoffice import sessions, token_balances
from external_apis.errors import Conflict, InvalidInput
from external_apis.models import Account
from external_apis.models.base import HistoryContext

__all__ = ["delete_user", "dependents"]

# These go along, or outlive the user on purpose. All other keys would lose whom they name, or forbid it.
_LEFT_ALONE = (models.CASCADE, models.DO_NOTHING)


def delete_user(account: Account, heir: Account | None = None) -> None:
    """Delete an account and its user, and log them out everywhere; with an heir what depends on them goes over first.

    Raises `Conflict` while something depends on them (``details["dependents"]`` counts it by kind), for the last owner
    of the installation or of a tenant, and for oneself; `InvalidInput` for an heir who cannot be one.
    """
    with transaction.atomic():
        _check(account)
        account = token_balances.locked(account)
        if heir is not None:
            _bequeath(account, _checked(heir, account))
        if found := dependents(account):
            told = ", ".join(f"{count} {kind}" for kind, count in found.items())
            raise Conflict(f"On the user {account.pk} depend {told}.", details={"dependents": found})
        sessions.end_all(account)
        name = account.user.get_username()
        audit.record("user.deleted", account, {"name": [name, None], "reassigned_to": [None, heir and heir.pk]})
        try:
            account.user.delete()
        except (ProtectedError, RestrictedError) as error:
            # Something that would go along is itself depended on.
            kept = error.protected_objects if isinstance(error, ProtectedError) else error.restricted_objects
            kinds = Counter(str(row._meta.verbose_name_plural) for row in kept)
            raise Conflict(f"On what the user {account.pk} has depend others.", details={"dependents": kinds}) from None


def _check(account: Account) -> None:
    """Raise `Conflict` for oneself and for the last owner.

    Whoever is counted cannot go before this transaction ends: of two last owners who are deleted at once one stays.
    """
    user = account.user
    if request_context.current().user_id == user.pk:
        raise Conflict("Nobody deletes their own account.")
    if not user.is_active:
        return
    if user.is_superuser:
        owners = get_user_model()._default_manager.filter(is_superuser=True, is_active=True).order_by("pk")
        if {owner.pk for owner in owners.select_for_update()} <= {user.pk}:
            raise Conflict("The last active superuser of the installation cannot be deleted.")
    elif user.is_staff and account.tenant_id is not None:
        staff = Account.objects.filter(
            tenant_id=account.tenant_id, user__is_staff=True, user__is_active=True, user__is_superuser=False
        ).order_by("pk")
        if {member.pk for member in staff.select_for_update(of=("self",))} <= {account.pk}:
            raise Conflict("The last active staff account of a tenant cannot be deleted.")


def dependents(account: Account) -> dict[str, int]:
    """Return how many rows of which kind depend on a user."""
    found: Counter[str] = Counter()
    for rows, _, _ in _dependent_rows(account):
        found[str(rows.model._meta.verbose_name_plural)] += rows.count()
    return {kind: count for kind, count in sorted(found.items()) if count}


def _dependent_rows(account: Account) -> Iterator[tuple[models.QuerySet[Any], str, bool]]:
    """Yield rows, the field in which they name the user, and whether it names the account."""
    for row in (account, account.user):
        for relation in row._meta.get_fields(include_hidden=True):
            if not isinstance(relation, models.ManyToOneRel) or relation.on_delete in _LEFT_ALONE:
                continue
            model = relation.related_model
            if not issubclass(model, HistoryContext):  # history names its actor in a column of its own as well
                rows = model._base_manager.filter(**{relation.field.name: row})
                yield rows, relation.field.name, isinstance(row, Account)


def _bequeath(account: Account, heir: Account) -> None:
    for rows, field, is_of_account in _dependent_rows(account):
        for row in rows.select_for_update(of=("self",)):
            before = copy(row)
            setattr(row, field, heir if is_of_account else heir.user)
            try:
                with transaction.atomic():
                    row.save(update_fields=[field])
            except IntegrityError:
                kind = row._meta.verbose_name
                message = f"The {kind} {row.pk} cannot be given to {heir.pk}, who has one that is the same."
                raise Conflict(message) from None
            audit.record(f"{row._meta.model_name}.reassigned", row, audit.changed_fields(row, before))


def _checked(heir: Account, account: Account) -> Account:
    """Return the heir, locked. What belongs to a tenant stays in it."""
    if heir.pk == account.pk:
        raise _refused("is the user who is to be deleted")
    heir = token_balances.locked(heir)
    if not heir.user.is_active:
        raise _refused("is a user who is not active")
    if heir.tenant_id != account.tenant_id:
        raise _refused("is a user of another tenant")
    return heir


def _refused(message: str) -> InvalidInput:
    details = {"errors": [{"path": "reassignTo", "message": message}]}
    return InvalidInput(f"Invalid input: reassignTo: {message}", details=details)

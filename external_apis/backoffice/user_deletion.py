"""Delete a user for good, once nothing depends on them any more: what does is reported, or given to somebody else."""

from __future__ import annotations

from collections import Counter
from copy import copy

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError, RestrictedError

from external_apis import audit, keys, request_context
from external_apis.backoffice import owners, sessions
from external_apis.backoffice.user_columns import is_
from external_apis.backoffice.user_dependents import count_dependents, dependents_of, has_foreign_ones
from external_apis.errors import Conflict, InvalidInput
from external_apis.models import Account, ApiKey
from external_apis.tenancy import EVERYTHING, Scope

__all__ = ["delete_user"]


def delete_user(account: Account, heir: Account | None = None, scope: Scope = EVERYTHING) -> None:
    """Delete an account and its user, and log them out everywhere; with an heir what depends on them goes over first.

    API keys go over to nobody: an heir's deletion revokes them. What is not of the account's tenant stays where it is.
    Raises `Conflict` while something depends on them (``details["dependents"]`` counts by kind what the scope sees of
    it), for the last owner of the installation or of a tenant, and for oneself; `InvalidInput` for an heir who cannot
    be one.
    """
    with transaction.atomic():
        if heir is None:
            (account,) = owners.hold(account)
        else:
            account, heir = owners.hold(account, heir)
            _check_heir(heir, account)
        if request_context.current().user_id == account.user_id:
            raise Conflict("Nobody deletes their own account.")
        owners.require_another(account)
        if has_foreign_ones(account, account.tenant_id):
            details = {"dependents": count_dependents(account, scope)}
            raise Conflict(f"On the user {account.pk} depend rows of others than the user's tenant.", details=details)
        if heir is not None:
            keys.part_with(account)
            _bequeath(account, heir)
        if found := count_dependents(account):
            told = ", ".join(f"{count} {kind}" for kind, count in found.items())
            raise Conflict(f"On the user {account.pk} depend {told}.", details={"dependents": found})
        sessions.end_all(account)
        name = account.user.get_username()
        audit.record("user.deleted", account, {"name": [name, None], "reassigned_to": [None, heir and heir.pk]})
        _delete(account, scope)


def _delete(account: Account, scope: Scope) -> None:
    try:
        account.user.delete()
    except (ProtectedError, RestrictedError) as error:
        # Something that would go along is itself depended on, perhaps by rows of others.
        kept = error.protected_objects if isinstance(error, ProtectedError) else error.restricted_objects
        kinds = Counter(str(row._meta.verbose_name_plural) for row in kept)
        details = {"dependents": kinds} if scope == EVERYTHING else None
        raise Conflict(f"On what the user {account.pk} has depend others.", details=details) from None


def _bequeath(account: Account, heir: Account) -> None:
    for dependents in dependents_of(account):
        field, rows = dependents.field, dependents.own(account.tenant_id)
        if issubclass(rows.model, ApiKey):
            continue
        for row in rows.select_for_update(of=("self",)):
            before = copy(row)
            setattr(row, field, heir if dependents.is_of_account else heir.user)
            try:
                with transaction.atomic():
                    row.save(update_fields=[field])
            except IntegrityError:
                kind = row._meta.verbose_name
                message = f"The {kind} {row.pk} cannot be given to {heir.pk}, who has one that is the same."
                raise Conflict(message) from None
            audit.record(f"{row._meta.model_name}.reassigned", row, audit.changed_fields(row, before))


def _check_heir(heir: Account, account: Account) -> None:
    """What belongs to a tenant stays in it."""
    if heir.pk == account.pk:
        raise InvalidInput.of("reassignTo", "is the user who is to be deleted")
    if not is_(heir.user, "is_active"):
        raise InvalidInput.of("reassignTo", "is a user who is not active")
    if heir.tenant_id != account.tenant_id:
        raise InvalidInput.of("reassignTo", "is a user of another tenant")

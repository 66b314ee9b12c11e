"""Create, change, order and delete AI models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Annotated, Any

from django.db import IntegrityError, connection, transaction
from django.db.models import Max, QuerySet
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from external_apis import audit
from external_apis.backoffice.models import AiModel
from external_apis.errors import Conflict, InvalidInput, NotFound
from external_apis.ids import can_name
from external_apis.provider_input import Name, RowId, read_body
from external_apis.tenancy import EVERYTHING, Scope
from external_apis.tenants import find_tenant

__all__ = [
    "AiModelChanges",
    "AiModelInput",
    "create",
    "delete",
    "find",
    "reorder",
    "store_new",
    "update",
    "visible",
]

Tier = Annotated[str, Field(max_length=50, pattern=r"^(\S(.*\S)?)?$")]
ProviderReference = Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9_-]*$")]
ConnectionReference = Annotated[str, Field(max_length=201, pattern=r"^([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)?)?$")]

_TABLE = AiModel._meta.db_table
# One statement: it moves all of them, or none when the list does not name each of the tenant's models once.
_REORDER = f"""
WITH asked AS (SELECT id, place FROM unnest(%(ids)s::text[]) WITH ORDINALITY AS given (id, place)),
    own AS (SELECT id FROM {_TABLE} WHERE tenant_id IS NOT DISTINCT FROM %(tenant)s)
UPDATE {_TABLE} AS row
SET "order" = asked.place - 1, updated_at = now()
FROM asked
WHERE row.id = asked.id
    AND (SELECT count(*) = count(DISTINCT id) FROM asked)
    AND NOT EXISTS (SELECT id FROM asked EXCEPT SELECT id FROM own)
    AND NOT EXISTS (SELECT id FROM own EXCEPT SELECT id FROM asked)
"""  # noqa: S608 (our own table's name)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)


class AiModelInput(_Body):
    name: Name
    """What the provider calls it; once for each tenant."""
    label: Name | None = None
    """What users see; the name unless given."""
    tier: Tier = ""
    supports_media: StrictBool = False
    enabled: StrictBool = True
    provider: ProviderReference = ""
    """The id or slug of a provider, where `connection` is the slug of one of its connections, or is not given."""
    connection: ConnectionReference = ""
    """A connection's id, its slug beside `provider`, or both slugs with a slash; looked up at a call, not before."""
    tenant_id: RowId | None = None
    """The asker's own unless an operator of the whole installation gives one."""


class AiModelChanges(_Body):
    name: Name = ""
    label: Name = ""
    tier: Tier = ""
    supports_media: StrictBool = False
    enabled: StrictBool = True
    provider: ProviderReference = ""
    connection: ConnectionReference = ""


def visible(scope: Scope) -> QuerySet[AiModel]:
    """The models of a scope, as they are ordered; the sandbox has none."""
    return AiModel.objects.none() if scope.is_sandbox else scope.own(AiModel.objects.all())


def find(model_id: str, scope: Scope = EVERYTHING) -> AiModel:
    """Return a model of the scope. Raises `NotFound`."""
    model = visible(scope).filter(pk=model_id).first() if can_name(model_id) else None
    if model is None:
        raise NotFound(f"AI model {ascii(model_id)[1:-1]} not found")
    return model


def create(data: Mapping[str, Any], scope: Scope = EVERYTHING) -> AiModel:
    """Store a model behind all others of its tenant.

    Raises `InvalidInput`, `NotFound` for a tenant that is not the scope's, and `Conflict` for a name in use.
    """
    facts = read_body(AiModelInput, data).model_dump()
    tenant_id = facts.pop("tenant_id") or scope.tenant_id
    tenant = find_tenant(tenant_id, scope) if tenant_id else None
    facts["label"] = facts["label"] or facts["name"]
    return store_new(AiModel(**facts, tenant=tenant))


def store_new(model: AiModel) -> AiModel:
    """Store a row that was made elsewhere, as `create` does."""
    with transaction.atomic():
        _lock(model.tenant_id)
        last = AiModel.objects.filter(tenant_id=model.tenant_id).aggregate(last=Max("order"))["last"]
        model.order = 0 if last is None else last + 1
        return _store(model, None)


def update(model: AiModel, data: Mapping[str, Any]) -> AiModel:
    """Change a model. Raises `InvalidInput`, `NotFound` when it is gone, and `Conflict` for a name in use."""
    body = read_body(AiModelChanges, data)
    with transaction.atomic():
        row = AiModel.objects.select_for_update().filter(pk=model.pk).first()
        if row is None:
            raise NotFound(f"AI model {model.pk} not found")
        before = copy(row)
        for name in body.model_fields_set:
            setattr(row, name, getattr(body, name))
        return _store(row, before)


def delete(model: AiModel) -> None:
    """Delete a model; what was counted of its calls stays. Raises `NotFound` when somebody else has been quicker."""
    with transaction.atomic():
        _lock(model.tenant_id)
        if not AiModel.objects.filter(pk=model.pk).exists():
            raise NotFound(f"AI model {model.pk} not found")
        audit.record("ai_model.deleted", model, {"name": [model.name, None], "label": [model.label, None]})
        model.delete()


def reorder(ids: Sequence[str], scope: Scope = EVERYTHING) -> list[AiModel]:
    """Put the models of one tenant, that of the first id, in the order of their ids, and return them in it.

    Raises `InvalidInput` for a list in which one is repeated, is none of that tenant's and the scope's, or is missing.
    """
    first = visible(scope).filter(pk__in=ids[:1]).first()
    tenant_id = scope.tenant_id if first is None else first.tenant_id
    with transaction.atomic():
        _lock(tenant_id)
        before = list(AiModel.objects.filter(tenant_id=tenant_id).values_list("pk", flat=True))
        with connection.cursor() as cursor:
            cursor.execute(_REORDER, {"ids": list(ids), "tenant": tenant_id})
            is_done = cursor.rowcount == len(before) == len(ids)
        if is_done:
            if before != list(ids):
                audit.record_about("ai_model.reordered", "aimodel", changes={"order": [before, list(ids)]},
                                   tenant_id=tenant_id)  # fmt: skip
            return list(AiModel.objects.filter(tenant_id=tenant_id))
    # Nothing was moved. The reason is looked for when nobody waits for the lock any more.
    raise _refused(ids, before)


def _refused(ids: Sequence[str], own: Sequence[str]) -> InvalidInput:
    """Return the error that names the first thing that is wrong with a list."""
    seen: set[str] = set()
    known = set(own)
    repeated = next((name for name in ids if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]
    unknown = next((name for name in ids if name not in known), None)
    missing = next((name for name in own if name not in seen), None)
    if repeated is not None:
        message = f"{repeated} is repeated"
    elif unknown is not None:
        message = f"{unknown} is none of these models"
    else:
        message = f"{missing} is missing"
    return InvalidInput.of("ids", message)


def _store(model: AiModel, before: AiModel | None) -> AiModel:
    try:
        with transaction.atomic():
            model.save(force_insert=before is None)
            verb = "created" if before is None else "updated"
            audit.record(f"ai_model.{verb}", model, audit.changed_fields(model, before))
    except IntegrityError:
        raise Conflict(f"An AI model {model.name!r} exists already.") from None
    return model


def _lock(tenant_id: str | None) -> None:
    """Have one at a time give places to a tenant's models: two new ones would find the same one free."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"places of AI models of {tenant_id}"])

"""Who may have what done, for which tenant, and with which input: it is stored as it can be read again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from connections.models import WorkflowRun
from connections.workflows.definitions import Workflow, find_workflow
from connections.workflows.journal import dump
from external_apis import scopes
from external_apis.errors import Conflict, Forbidden, InvalidInput, NotFound
from external_apis.key_granting import Granter
from external_apis.models import Tenant
from external_apis.tenancy import Scope

__all__ = ["admitted_input", "digest_of", "find_tenant", "require_control"]


def admitted_input(definition: Workflow, given: Any, granter: Granter, tenant_id: str | None) -> str:
    """Return an input, as JSON, that whoever starts the run may have dealt with, in the bounds of the run's tenant.

    Raises `InvalidInput` with field paths, and `Forbidden`.
    """
    _require(definition.needs, granter)
    if tenant_id is not None:
        granter = replace(granter, scope=replace(granter.scope, tenant_id=tenant_id))
    try:
        read = definition.read(given)
        if definition.admit is not None:
            read = definition.admit(read, granter)
    except InvalidInput as error:
        errors = [{**item, "path": f"input.{item['path']}"} for item in error.details.get("errors", ())]
        if not errors:
            raise
        summary = "; ".join(f"{item['path']}: {item['message']}" for item in errors[:5])
        raise InvalidInput(f"Invalid input: {summary}", details={"errors": errors}) from None
    return _readable(definition, read)


def digest_of(definition: Workflow, given: Any) -> str:
    """Return what tells one given input from another, without defaults, and in whatever order. Only to be sealed: who
    guesses the input has the same."""
    read = definition.read(given).model_dump(by_alias=True, round_trip=True, exclude_unset=True)
    return hashlib.sha256(_canonical(read).encode()).hexdigest()


def require_control(run: WorkflowRun, granter: Granter) -> None:
    """Raise `Forbidden` for whoever may not have a run cancelled or tried again, which may call providers.

    That needs what starting it does; where nobody knows its workflow any more, everything.
    """
    try:
        needed = find_workflow(run.workflow).needs
    except NotFound:
        needed = scopes.EVERY_SCOPE
    _require(needed, granter)


def find_tenant(tenant_id: str | None, scope: Scope) -> str | None:
    """Return the tenant that a run is to be of. Raises `NotFound`, and `Conflict` for one that is deactivated."""
    tenant_id = tenant_id or scope.tenant_id
    if tenant_id is None:
        return None
    is_seen = scope.tenant_id in (None, tenant_id)
    row = Tenant.objects.filter(pk=tenant_id).first() if is_seen else None
    if row is None:
        raise NotFound(f"Tenant {tenant_id} not found")
    if not row.is_active:
        raise Conflict(f"Tenant {tenant_id} is deactivated: it has no workflows run.")
    return row.pk


def _require(scope: str, granter: Granter) -> None:
    if scope and not scopes.grants(granter.scopes, scope):
        raise Forbidden(f"This needs the scope {scope}.", details={"scope": scope})


def _canonical(value: Any) -> str:
    if isinstance(value, Mapping):
        items = sorted(f"{_canonical(name)}:{_canonical(item)}" for name, item in value.items())
        return f"{{{','.join(items)}}}"
    if isinstance(value, list | tuple | set | frozenset):
        items = [_canonical(item) for item in value]
        return f"[{','.join(sorted(items) if isinstance(value, set | frozenset) else items)}]"
    return json.dumps(to_jsonable_python(value, fallback=repr), sort_keys=True)


def _readable(definition: Workflow, read: BaseModel) -> str:
    """Defaults are stored too, so that they stay what they were, unless they are such as cannot be given."""
    for is_short in (False, True):
        with suppress(TypeError, ValueError, InvalidInput):
            text = dump(read.model_dump(mode="json", by_alias=True, round_trip=True, exclude_unset=is_short))
            if definition.read(json.loads(text)) == read:
                return text
    raise InvalidInput.of("input", "cannot be stored as JSON so that it is read again as it was given")

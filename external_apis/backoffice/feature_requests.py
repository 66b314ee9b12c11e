"""Feature requests: note them, vote for them, say what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Annotated, Any

from django.db import transaction
from django.db.models import Q, QuerySet
from pydantic import BaseModel, ConfigDict, Field

from external_apis import audit
from external_apis.backoffice.models import FeatureRequest, FeatureStatus, FeatureVote
from external_apis.errors import NotFound
from external_apis.ids import can_name
from external_apis.provider_input import Description, Name, RowId, read_body
from external_apis.tenancy import EVERYTHING, Scope
from external_apis.tenants import find_tenant

__all__ = [
    "FeatureRequestChanges",
    "FeatureRequestInput",
    "create_feature_request",
    "delete_feature_request",
    "find_feature_request",
    "matching_feature_requests",
    "update_feature_request",
    "visible_feature_requests",
    "vote",
    "withdraw_vote",
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class FeatureRequestInput(_Body):
    """What `create_feature_request` takes."""

    title: Name
    description: Description = ""
    tenant_id: RowId | None = None
    """The tenant whose product it is about."""


class FeatureRequestChanges(_Body):
    """What `update_feature_request` takes: what is not mentioned stays."""

    title: Name = ""
    description: Description = ""
    status: FeatureStatus = FeatureStatus.OPEN


class _Voter(_Body):
    voter: Annotated[str, Field(min_length=1, max_length=200)]


def visible_feature_requests(scope: Scope) -> QuerySet[FeatureRequest]:
    """The requests that somebody of this scope sees: all, or the tenant's; the sandbox has none."""
    return FeatureRequest.objects.none() if scope.is_sandbox else scope.own(FeatureRequest.objects.all())


def matching_feature_requests(scope: Scope, *, search: str = "", status: str = "") -> QuerySet[FeatureRequest]:
    """Those of them with a part of their title or description, or a status, the most wanted first."""
    rows = visible_feature_requests(scope)
    if status:
        rows = rows.filter(status=status)
    return rows.filter(Q(title__icontains=search) | Q(description__icontains=search)) if search else rows


def find_feature_request(request_id: str, scope: Scope = EVERYTHING) -> FeatureRequest:
    """Return a request of the scope. Raises `NotFound`."""
    row = visible_feature_requests(scope).filter(pk=request_id).first() if can_name(request_id) else None
    if row is None:
        raise NotFound(f"Feature request {ascii(request_id)[1:-1]} not found")
    return row


def create_feature_request(data: Mapping[str, Any], scope: Scope = EVERYTHING) -> FeatureRequest:
    """Store a request without votes. Raises `InvalidInput`, and `NotFound` for a foreign tenant."""
    body = read_body(FeatureRequestInput, data)
    tenant_id = body.tenant_id or scope.tenant_id
    row = FeatureRequest(
        title=body.title, description=body.description, tenant=find_tenant(tenant_id, scope) if tenant_id else None
    )
    with transaction.atomic():
        row.save(force_insert=True)
        audit.record("feature_request.created", row, audit.changed_fields(row))
    return row


def update_feature_request(row: FeatureRequest, data: Mapping[str, Any]) -> FeatureRequest:
    """Change a request; votes that are cast meanwhile stay. Raises `InvalidInput`, and `NotFound` where it is gone."""
    body = read_body(FeatureRequestChanges, data)
    with transaction.atomic():
        row = _locked(row)
        before = copy(row)
        for name in body.model_fields_set:
            setattr(row, name, getattr(body, name))
        row.save(update_fields=[*body.model_fields_set, "updated_at"])
        audit.record("feature_request.updated", row, audit.changed_fields(row, before))
    return row


def delete_feature_request(row: FeatureRequest) -> None:
    """Delete a request and its votes. Raises `NotFound` where it is gone."""
    with transaction.atomic():
        row = _locked(row)
        audit.record("feature_request.deleted", row, {"title": [row.title, None], "votes": [row.votes, None]})
        row.delete()


def vote(row: FeatureRequest, voter: str) -> bool:
    """Count somebody's vote, once however often it is cast; return whether it is a new one.

    ``voter`` is whatever tells one from another, such as the id of an account. Raises `InvalidInput`, and `NotFound`
    where the request is gone.
    """
    read_body(_Voter, {"voter": voter})
    with transaction.atomic():
        row = _locked(row)
        _, is_new = FeatureVote.objects.get_or_create(
            feature_request=row, voter=voter, defaults={"tenant_id": row.tenant_id}
        )
        if is_new:
            _add("feature_request.voted", row, 1)
    return is_new


def withdraw_vote(row: FeatureRequest, voter: str) -> bool:
    """Take a vote back; return whether there was one. Raises as `vote` does."""
    read_body(_Voter, {"voter": voter})
    with transaction.atomic():
        row = _locked(row)
        was_there = bool(FeatureVote.objects.filter(feature_request=row, voter=voter).delete()[0])
        if was_there:
            _add("feature_request.vote_withdrawn", row, -1)
    return was_there


def _locked(row: FeatureRequest) -> FeatureRequest:
    """One vote after another: whoever waits here reads what the one before has written."""
    found = FeatureRequest.objects.select_for_update().filter(pk=row.pk).first()
    if found is None:
        raise NotFound(f"Feature request {row.pk} not found")
    return found


def _add(action: str, row: FeatureRequest, votes: int) -> None:
    row.votes += votes
    row.save(update_fields=["votes", "updated_at"])
    audit.record(action, row, {"votes": [row.votes - votes, row.votes]})

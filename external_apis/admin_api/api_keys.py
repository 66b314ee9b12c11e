"""``/api/external/api-keys`` (seed 003 at seed 001's prefix)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from django.urls import path
from django.utils import timezone
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis import keys
from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelModel, Deleted, PageQuery, deletes, lists, reads, writes
from external_apis.json_output import Timestamp
from external_apis.key_granting import Granter, granter_of
from external_apis.key_input import KeyInput, Seconds
from external_apis.models import ApiKey, KeyMode, KeyType


class ApiKeyItem(CamelModel):
    id: str
    title: str
    type: KeyType
    mode: KeyMode
    status: keys.KeyStatus
    redacted: str
    """The first six characters, `***`, the last three."""
    tenant_id: str | None
    owner_id: str | None
    service: str
    scopes: list[str]
    allowed_networks: list[str]
    rate_limit: int | None
    """Requests an hour; null where the usual limit holds."""
    expires_at: Timestamp | None
    last_used_at: Timestamp | None
    """Some ten seconds late."""
    last_used_from: str | None
    created_at: Timestamp
    created_by: str
    updated_at: Timestamp
    revoked_at: Timestamp | None
    """May lie in the future: the key works until then."""
    revoked_by: str
    rolled_from_id: str | None


class CreatedApiKey(ApiKeyItem):
    token: str
    """The key itself: nobody can look it up afterwards."""


class RolledApiKey(CreatedApiKey):
    replaced: ApiKeyItem
    """The key that this one replaces, with its last use."""


class Verified(CamelModel):
    is_valid: bool
    problem: str
    """Why it does not work; empty when it does."""
    key: ApiKeyItem | None
    """Null for a key that there is not."""


class NewApiKey(KeyInput):
    model_config = ConfigDict(alias_generator=to_camel, use_attribute_docstrings=True)


class ApiKeyPatch(keys.KeyChanges):
    model_config = ConfigDict(alias_generator=to_camel)


class Revocation(CamelModel):
    in_seconds: Seconds = 0
    """How long the key is to work yet."""


class Roll(CamelModel):
    overlap_seconds: Seconds = 0
    """How long the old key is to work beside the new one."""


class TokenToVerify(CamelModel):
    token: Annotated[str, Field(max_length=1000)]


class ApiKeyQuery(PageQuery):
    search: Annotated[str, Field(max_length=200)] = ""
    """A part of the title."""
    type: KeyType = KeyType.SECRET
    mode: KeyMode = KeyMode.LIVE
    status: keys.KeyStatus = keys.KeyStatus.ACTIVE
    tenant_id: Annotated[str, Field(max_length=48, pattern=r"^[A-Za-z0-9_-]+$")] = ""


class ApiKeyView(ResourceView):
    """What the views of keys share."""

    def find(self, key_id: str) -> ApiKey:
        return keys.find(key_id, self.scope)

    @property
    def granter(self) -> Granter:
        return granter_of(self.asker, self.scope)


class ApiKeyList(ApiKeyView):
    @lists("list_api_keys", "keys:read", ApiKeyItem, ApiKeyQuery, "List API keys, newest first")
    def get(self, request: Request) -> Response:
        filters, now = self.query.filters(), timezone.now()
        rows = keys.visible(self.scope)
        if status := filters.pop("status", None):
            rows = keys.of_status(rows, status, now)
        if search := filters.pop("search", ""):
            rows = rows.filter(title__icontains=search)
        return self.page(rows.filter(**filters), lambda key: _shown(key, now))

    @writes("create_api_key", "keys:write", NewApiKey, CreatedApiKey, "Create an API key", status=201)
    def post(self, request: Request) -> Response:
        created = keys.create(self.given, self.granter)
        return self.answer({**_shown(created.key, timezone.now()), "token": created.token})


class ApiKeyPage(ApiKeyView):
    @reads("get_api_key", "keys:read", ApiKeyItem, "Show an API key, never the key itself")
    def get(self, request: Request, key_id: str) -> Response:
        return self.answer(_shown(self.find(key_id), timezone.now()))

    @writes("update_api_key", "keys:write", ApiKeyPatch, ApiKeyItem, "Rename an API key")
    def patch(self, request: Request, key_id: str) -> Response:
        return self.answer(_shown(keys.rename(self.find(key_id), self.given), timezone.now()))

    @deletes("delete_api_key", "keys:write", "Delete an API key whose revocation has taken effect")
    def delete(self, request: Request, key_id: str) -> Response:
        keys.delete(self.find(key_id))
        return self.answer(Deleted(id=key_id).model_dump(by_alias=True))


class ApiKeyRevocation(ApiKeyView):
    @writes("revoke_api_key", "keys:write", Revocation, ApiKeyItem, "Revoke an API key, now or soon")
    def post(self, request: Request, key_id: str) -> Response:
        return self.answer(_shown(keys.revoke(self.find(key_id), **self.given), timezone.now()))


class ApiKeyRoll(ApiKeyView):
    @writes(
        "roll_api_key", "keys:write", Roll, RolledApiKey, "Replace an API key by one with the same rights", status=201
    )
    def post(self, request: Request, key_id: str) -> Response:
        created = keys.roll(self.find(key_id), granter=self.granter, **self.given)
        now = timezone.now()
        replaced = _shown(self.find(key_id), now)
        return self.answer({**_shown(created.key, now), "token": created.token, "replaced": replaced})


class ApiKeyVerification(ApiKeyView):
    @writes("verify_api_key", "keys:read", TokenToVerify, Verified, "Tell whether a key works, and its facts")
    def post(self, request: Request) -> Response:
        outcome = keys.verify(self.given["token"], self.scope)
        key = None if outcome.key is None else _shown(outcome.key, timezone.now())
        return self.answer({"isValid": outcome.is_valid, "problem": outcome.problem, "key": key})


def _shown(key: ApiKey, now: datetime) -> dict[str, Any]:
    facts = {name: getattr(key, name) for name in ApiKeyItem.model_fields if name != "status"}
    facts |= {"type": KeyType(key.type), "mode": KeyMode(key.mode), "status": keys.status_of(key, now)}
    item = ApiKeyItem.model_construct(**facts)
    return item.model_dump(mode="json", by_alias=True)


routes = [
    path("api-keys", ApiKeyList.as_view()),
    path("api-keys/verify", ApiKeyVerification.as_view()),
    path("api-keys/<str:key_id>", ApiKeyPage.as_view()),
    path("api-keys/<str:key_id>/revoke", ApiKeyRevocation.as_view()),
    path("api-keys/<str:key_id>/roll", ApiKeyRoll.as_view()),
]

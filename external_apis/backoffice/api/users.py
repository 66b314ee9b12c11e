"""``/api/external/users``: people, their plans, tokens and sessions."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from django.urls import path
from pydantic import Field, StrictInt
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import (
    CamelAnswer,
    CamelModel,
    Deleted,
    PageQuery,
    Query,
    deletes,
    lists,
    reads,
    writes,
)
from external_apis.backoffice import plans, token_balances, user_deletion, users
from external_apis.backoffice.models import MOST_TOKENS
from external_apis.backoffice.user_columns import is_
from external_apis.json_output import Timestamp
from external_apis.models import Account
from external_apis.paging import recent_estimate
from external_apis.provider_input import RowId
from external_apis.scopes import EVERY_SCOPE


class UserItem(CamelAnswer):
    id: str
    username: str
    name: str
    email: str
    status: users.Status
    plan: str | None
    """The slug of the plan; null for a user who never had one."""
    tokens: int
    """The balance of AI tokens."""
    tenant_id: str | None
    is_staff: bool
    created_at: Timestamp
    updated_at: Timestamp
    last_login_at: Timestamp | None


class UserQuery(PageQuery):
    search: Annotated[str, Field(max_length=200)] = ""
    """A part of a name or of the e-mail address, or the id; one or two characters, with which a word begins."""
    status: users.Status | None = None
    plan: Annotated[str, Field(max_length=50)] = ""
    """The slug of a plan."""


class PlanChange(CamelModel):
    plan: Annotated[str, Field(min_length=1, max_length=50)]
    """The slug of an active plan. Its allowance becomes the balance of tokens."""


class TokenAdjustment(CamelModel):
    tokens: Annotated[StrictInt, Field(ge=0, le=MOST_TOKENS)]
    operation: token_balances.Operation


class DeletionQuery(Query):
    reassign_to: RowId | None = None
    """The user to whom goes what depends on this one."""


class UserList(ResourceView):
    @lists("list_users", "users:read", UserItem, UserQuery, "List users")
    def get(self, request: Request) -> Response:
        rows = users.filtered(users.visible_users(self.scope), **self.query.filters())
        return self.page(rows, _shown, count=partial(recent_estimate, at_most=users.COUNTED_AT_MOST))


class UserPage(ResourceView):
    @reads("get_user", "users:read", UserItem, "Show a user")
    def get(self, request: Request, user_id: str) -> Response:
        return self.answer(_shown(users.find_user(user_id, self.scope)))

    @deletes("delete_user", "users:write", "Delete a user on whom nothing depends", DeletionQuery)
    def delete(self, request: Request, user_id: str) -> Response:
        account = changeable_user(self, user_id)
        heir_id = self.query.filters().get("reassign_to")
        user_deletion.delete_user(account, users.find_user(heir_id, self.scope) if heir_id else None, self.scope)
        return self.answer(Deleted(id=user_id).model_dump(by_alias=True))


class UserPlan(ResourceView):
    @writes("change_user_plan", "users:write", PlanChange, UserItem, "Put a user on a plan")
    def patch(self, request: Request, user_id: str) -> Response:
        account = changeable_user(self, user_id)
        return self.answer(_shown(plans.change_plan(account, self.given["plan"])))


class UserTokens(ResourceView):
    @writes("adjust_user_tokens", "users:write", TokenAdjustment, UserItem, "Set, raise or lower a balance of tokens")
    def patch(self, request: Request, user_id: str) -> Response:
        account = changeable_user(self, user_id)
        return self.answer(_shown(token_balances.adjust(account, self.given["operation"], self.given["tokens"])))


def changeable_user(view: ResourceView, user_id: str) -> Account:
    """Return a user whom the asker may change. Raises `Forbidden`, and `NotFound`."""
    view.require_live()
    account = users.find_user(user_id, view.scope)
    users.require_superuser(account, asker_is_one=view.asker.has_scope(EVERY_SCOPE))
    return account


def _shown(account: Account) -> dict[str, Any]:
    user: Any = account.user
    item = UserItem.model_construct(
        id=account.pk,
        username=user.get_username(),
        name=user.get_full_name() if hasattr(user, "get_full_name") else "",
        email=getattr(user, user.get_email_field_name(), None) or "",
        status="active" if is_(user, "is_active") else "inactive",
        plan=account.plan or None,
        tokens=account.tokens,
        tenant_id=account.tenant_id,
        is_staff=is_(user, "is_staff"),
        created_at=account.created_at,
        updated_at=account.updated_at,
        last_login_at=user.last_login,
    )
    return item.model_dump(mode="json", by_alias=True)


routes = [
    path("users", UserList.as_view()),
    path("users/<str:user_id>", UserPage.as_view()),
    path("users/<str:user_id>/plan", UserPlan.as_view()),
    path("users/<str:user_id>/tokens", UserTokens.as_view()),
]

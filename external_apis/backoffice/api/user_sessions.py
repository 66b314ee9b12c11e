"""``/api/external/users/{id}/sessions``: the browsers that a user is signed in with."""

from __future__ import annotations

from typing import Any

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, Deleted, PageQuery, deletes, lists
from external_apis.backoffice import sessions, users
from external_apis.backoffice.api.users import changeable_user
from external_apis.backoffice.models import UserSession
from external_apis.json_output import Timestamp


class SessionItem(CamelAnswer):
    id: str
    user_id: str
    user_agent: str
    """What the browser calls itself, its first 200 characters."""
    created_at: Timestamp
    last_seen_at: Timestamp
    """Up to five minutes old."""
    expires_at: Timestamp


class SessionList(ResourceView):
    @lists("list_user_sessions", "users:read", SessionItem, PageQuery, "List the sessions a user is signed in with")
    def get(self, request: Request, user_id: str) -> Response:
        account = users.find_user(user_id, self.scope)
        return self.page(sessions.live_sessions(account), _shown)


class SessionPage(ResourceView):
    @deletes("revoke_user_session", "users:write", "Log a browser out at its next request")
    def delete(self, request: Request, user_id: str, session_id: str) -> Response:
        sessions.end(changeable_user(self, user_id), session_id)
        return self.answer(Deleted(id=session_id).model_dump(by_alias=True))


def _shown(row: UserSession) -> dict[str, Any]:
    names = ("id", "user_agent", "created_at", "last_seen_at")
    facts = {name: getattr(row, name) for name in names}
    item = SessionItem.model_construct(user_id=row.account_id, expires_at=row.ends_at, **facts)  # type: ignore[attr-defined]
    return item.model_dump(mode="json", by_alias=True)


routes = [
    path("users/<str:user_id>/sessions", SessionList.as_view()),
    path("users/<str:user_id>/sessions/<str:session_id>", SessionPage.as_view()),
]

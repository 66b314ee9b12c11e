"""What a known asker may do: Django's model permissions, asked of whoever `authentication` found."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

_ACTIONS = {"GET": "view", "HEAD": "view", "OPTIONS": "view", "POST": "add", "PATCH": "change", "DELETE": "delete"}


class ModelPermission(BasePermission):
    """Staff with the permission that the method needs on the view's ``model``.

    A view says in ``permission_actions`` where a method means something else, such as a POST that adds nothing.
    """

    message = "You do not have the permission that this needs."

    def has_permission(self, request: Request, view: Any) -> bool:
        action = {**_ACTIONS, **view.permission_actions}.get(request.method or "")
        if not request.user.is_staff:
            return False
        if action is None:  # the view will answer that it has no such method
            return True
        options = view.model._meta
        return bool(request.user.has_perm(f"{options.app_label}.{action}_{options.model_name}"))

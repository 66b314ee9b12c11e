"""What all views of the management REST share: who may ask, and for what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models
from rest_framework.request import Request

from external_apis import throttling
from external_apis.authentication import BearerOrSessionAuthentication, StaffSessionAuthentication
from external_apis.json_views import JsonView
from external_apis.key_holder import KeyHolder
from external_apis.permissions import ModelPermission


class ManagementView(JsonView):
    """``model`` is what the permissions are asked for."""

    authentication_classes = (BearerOrSessionAuthentication, StaffSessionAuthentication)
    permission_classes = (ModelPermission,)
    model: ClassVar[type[models.Model]]
    permission_actions: ClassVar[Mapping[str, str]] = {}

    def perform_authentication(self, request: Request) -> None:
        super().perform_authentication(request)
        if isinstance(request.user, KeyHolder):
            self.charge_key(request.user)

    def charge_key(self, holder: KeyHolder) -> None:
        """Take one of the slots that a key with a limit of its own has. Raises `RateLimited`."""
        quota = throttling.charge_own_limit(holder)
        if quota is not None:
            self.charge(quota)

"""What all views of the management REST share: who may ask, and for what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from django.db import models

from external_apis.authentication import BearerOrSessionAuthentication, StaffSessionAuthentication
from external_apis.json_views import JsonView
from external_apis.permissions import ModelPermission


class ManagementView(JsonView):
    """``model`` is what the permissions are asked for."""

    authentication_classes = (BearerOrSessionAuthentication, StaffSessionAuthentication)
    permission_classes = (ModelPermission,)
    model: ClassVar[type[models.Model]]
    permission_actions: ClassVar[Mapping[str, str]] = {}

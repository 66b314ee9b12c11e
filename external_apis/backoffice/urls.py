"""Routes of the backoffice under ``/api/external``."""

from __future__ import annotations

from django.urls import URLPattern

from external_apis.backoffice.api import ai_models

urlpatterns: list[URLPattern] = [
    *ai_models.routes,
]

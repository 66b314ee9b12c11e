"""Routes of the backoffice under ``/api/external`` that need this floor."""

from __future__ import annotations

from django.urls import URLPattern

from connections.api import external_model_chat

urlpatterns: list[URLPattern] = [
    *external_model_chat.routes,
]

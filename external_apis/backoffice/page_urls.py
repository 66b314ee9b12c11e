"""Routes of the pages that everybody may open."""

from __future__ import annotations

from django.urls import URLPattern

from external_apis.backoffice.pages import contact

urlpatterns: list[URLPattern] = [*contact.routes]

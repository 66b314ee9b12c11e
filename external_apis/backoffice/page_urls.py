"""Routes of the pages that everybody may open."""

from __future__ import annotations

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []

"""Routes of the pages that everybody may open."""

from __future__ import annotations

from django.urls import URLPattern

from external_apis.backoffice.pages import blog, contact

urlpatterns: list[URLPattern] = [*blog.routes, *contact.routes]

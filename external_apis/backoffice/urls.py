"""Routes of the backoffice under ``/api/external``."""

from __future__ import annotations

from django.urls import URLPattern

from external_apis.backoffice.api import (
    affiliates,
    ai_models,
    blogs,
    contact_messages,
    feature_requests,
    overview,
    resources,
    tracking,
    usage,
    user_sessions,
    users,
    withdrawals,
)

urlpatterns: list[URLPattern] = [
    *users.routes,
    *user_sessions.routes,
    *ai_models.routes,
    *affiliates.routes,
    *withdrawals.routes,
    *overview.routes,
    *resources.routes,
    *usage.routes,
    *blogs.routes,
    *feature_requests.routes,
    *contact_messages.routes,
    *tracking.routes,
]

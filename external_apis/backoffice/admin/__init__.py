"""The backoffice's admin pages, of which there are none where it is switched off."""

from external_apis.backoffice.admin import (
    accounts,
    affiliates,
    ai_models,
    blogs,
    contact_messages,
    feature_requests,
    plans,
    users,
    withdrawals,
)

__all__ = [
    "accounts",
    "affiliates",
    "ai_models",
    "blogs",
    "contact_messages",
    "feature_requests",
    "plans",
    "users",
    "withdrawals",
]

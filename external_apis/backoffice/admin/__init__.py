"""The backoffice's admin pages, of which there are none where it is switched off."""

from external_apis.backoffice.admin import (
    affiliates,
    ai_models,
    contact_messages,
    feature_requests,
    withdrawals,
)

__all__ = [
    "affiliates",
    "ai_models",
    "contact_messages",
    "feature_requests",
    "withdrawals",
]

"""The backoffice's admin pages, of which there are none where it is switched off."""

from external_apis.backoffice.admin import affiliates, contact_messages, feature_requests, withdrawals

__all__ = ["affiliates", "contact_messages", "feature_requests", "withdrawals"]

"""The ground floor's admin pages; Django imports this package, which registers them."""

from external_apis.admin import api_keys, catalogue, providers, tenants, users

__all__ = ["api_keys", "catalogue", "providers", "tenants", "users"]

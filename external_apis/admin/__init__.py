"""The ground floor's admin pages; Django imports this package, which registers them."""

from external_apis.admin import catalogue, providers, tenants, users

__all__ = ["catalogue", "providers", "tenants", "users"]

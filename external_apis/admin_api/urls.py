"""Routes under ``/api/external`` on this floor."""

from __future__ import annotations

from external_apis.admin_api import api_keys, auth, partners, providers, system, tenants

urlpatterns = [*auth.routes, *api_keys.routes, *system.routes, *providers.routes, *tenants.routes, *partners.routes]

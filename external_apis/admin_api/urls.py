"""Routes under ``/api/external`` on this floor."""

from __future__ import annotations

from external_apis.admin_api import auth, partners, providers, system, tenants

urlpatterns = [*auth.routes, *system.routes, *providers.routes, *tenants.routes, *partners.routes]

"""Routes under ``/api/external`` on this floor."""

from __future__ import annotations

from external_apis.admin_api import auth, partners, tenants

urlpatterns = [*auth.routes, *partners.routes, *tenants.routes]

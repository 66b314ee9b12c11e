"""Blog posts, feature requests and contact messages for tests, made through the services."""

from __future__ import annotations

import itertools
from typing import Any

from external_apis.backoffice.blogs import create_blog
from external_apis.backoffice.feature_requests import create_feature_request
from external_apis.backoffice.models import Blog, ContactMessage, FeatureRequest
from external_apis.models import Tenant

_numbers = itertools.count(1)


def make_blog(tenant: Tenant | None = None, **fields: Any) -> Blog:
    """A draft, unless a status is given."""
    return create_blog({"title": f"Post {next(_numbers)}", "tenant_id": tenant and tenant.pk, **fields})


def make_feature_request(tenant: Tenant | None = None, **fields: Any) -> FeatureRequest:
    return create_feature_request({"title": f"Wish {next(_numbers)}", "tenant_id": tenant and tenant.pk, **fields})


def make_message(tenant: Tenant | None = None, **fields: Any) -> ContactMessage:
    """A message that nobody's limit was charged for."""
    given = {"name": "Ann", "email": "ann@example.com", "message": f"Hello {next(_numbers)}", **fields}
    return ContactMessage.objects.create(tenant=tenant, **given)

"""AI models for tests."""

from __future__ import annotations

import itertools
from typing import Any

from external_apis.backoffice import ai_models
from external_apis.backoffice.models import AiModel
from external_apis.models import Tenant
from external_apis.tenancy import Scope

_numbers = itertools.count(1)


def make_ai_model(tenant: Tenant | None = None, **fields: Any) -> AiModel:
    """A stored model behind the others of its tenant."""
    scope = Scope(None if tenant is None else tenant.pk)
    return ai_models.create({"name": f"model-{next(_numbers)}", **fields}, scope)

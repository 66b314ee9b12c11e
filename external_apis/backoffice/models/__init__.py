"""The backoffice's tables."""

from __future__ import annotations

from external_apis.backoffice.models.ai_models import AiModel
from external_apis.backoffice.models.ai_usage import AiCall, AiDimension, AiUsageSum

__all__ = [
    "AiCall",
    "AiDimension",
    "AiModel",
    "AiUsageSum",
]

"""A call's settings for walking through a list, on top of those that its provider configures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from connections.wire.arguments import refuse
from external_apis.api_config import validation_errors
from external_apis.pagination_config import Pagination

__all__ = ["read_settings"]


def read_settings(configured: Pagination | None, style: str | None, changes: Mapping[str, Any]) -> Pagination:
    """Return the provider's settings with those of the call in their place; raises `InvalidInput`.

    A call that names another style than the provider's starts from that style's defaults.
    """
    known = configured.model_dump() if configured and style in (None, configured.style) else {}
    if style is None and configured is None:
        raise refuse("style", "is needed: the provider configures no pagination")
    try:
        return Pagination.model_validate({**known, "style": style or known.get("style"), **changes})
    except ValidationError as error:
        (problem, *_) = validation_errors(error, "")
        raise refuse(problem["path"], problem["message"]) from None

"""The current request's id for error pages, which Django renders without a context."""

from __future__ import annotations

from django import template

from external_apis import request_context

register = template.Library()


@register.simple_tag
def request_id() -> str:
    """Empty outside of a request."""
    return request_context.current().request_id

"""What does not work as it should, for the admin's first page."""

from __future__ import annotations

from django import template

from external_apis.health import check_upkeep

register = template.Library()


@register.simple_tag
def health_warnings() -> list[str]:
    return [check.status for check in check_upkeep() if not check.is_ok]

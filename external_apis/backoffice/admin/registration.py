"""Registers an admin page of the backoffice, where the backoffice is switched on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.conf import settings
from django.contrib import admin
from django.db.models import Model

_Page = TypeVar("_Page", bound="type[admin.ModelAdmin[Any]]")


def register(*models: type[Model]) -> Callable[[_Page], _Page]:
    """Stands above a page as ``admin.register`` does; with ``BACKOFFICE_ENABLED`` off there is no page."""

    def decorate(page: _Page) -> _Page:
        if settings.BACKOFFICE_ENABLED:
            admin.site.register(models, page)
        return page

    return decorate

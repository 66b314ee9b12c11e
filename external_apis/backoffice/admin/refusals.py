"""Deletions in the admin that a service may refuse: the page says why, and nothing has happened."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from external_apis.errors import ApiManagerError


class ShowsRefusals:
    """Goes before a ``ModelAdmin``. Each page has a transaction of its own, which the refusal has undone."""

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            response: HttpResponse = super().changeform_view(request, *args, **kwargs)  # type: ignore[misc]
        except ApiManagerError as error:
            return self._refused(request, error)
        return response

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            response: HttpResponse = super().delete_view(request, *args, **kwargs)  # type: ignore[misc]
        except ApiManagerError as error:
            return self._refused(request, error)
        return response

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse | None:
        try:
            response: HttpResponse | None = super().response_action(request, *args, **kwargs)  # type: ignore[misc]
        except ApiManagerError as error:
            return self._refused(request, error)
        return response

    def _refused(self, request: HttpRequest, error: ApiManagerError) -> HttpResponse:
        self.message_user(request, error.message, messages.ERROR)  # type: ignore[attr-defined]
        return HttpResponseRedirect(request.get_full_path())

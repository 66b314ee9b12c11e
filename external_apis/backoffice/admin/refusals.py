"""Deletions in the admin that a service may refuse: the page says why, and nothing has happened."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from external_apis.errors import ApiManagerError


class ShowsRefusals:
    """Goes before a ``ModelAdmin``. Both pages delete in a transaction of their own, which the refusal has undone."""

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._shown(request, lambda: super(ShowsRefusals, self).delete_view(request, *args, **kwargs))  # type: ignore[misc]

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse | None:
        return self._shown(request, lambda: super(ShowsRefusals, self).response_action(request, *args, **kwargs))  # type: ignore[misc]

    def _shown(self, request: HttpRequest, act: Any) -> Any:
        try:
            return act()
        except ApiManagerError as error:
            self.message_user(request, error.message, messages.ERROR)  # type: ignore[attr-defined]
            return HttpResponseRedirect(request.get_full_path())

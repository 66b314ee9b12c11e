"""What the views of every JSON API share: how a body is read, how an error is answered, whose rows are seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from django.core.handlers.wsgi import get_bytes_from_wsgi
from django.db import models
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from external_apis.bodies import StrictJSONParser, check_length
from external_apis.error_answers import exception_handler
from external_apis.errors import Forbidden, InvalidInput
from external_apis.query_input import check_encoding
from external_apis.tenancy import Scope, scope_of
from external_apis.throttling import Quota


class JsonView(APIView):
    """Answers are JSON and are not stored by anybody on the way."""

    parser_classes = (StrictJSONParser,)
    renderer_classes = (JSONRenderer,)

    quota: Quota

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # First, because the CSRF check of a session looks into the body.
        check_length(request)
        self.check_query(request)
        super().initial(request, *args, **kwargs)

    def check_query(self, request: Request) -> None:
        """Raise `InvalidInput` for a query that is not UTF-8."""
        check_encoding(get_bytes_from_wsgi(request.META, "QUERY_STRING", ""))

    def get_exception_handler(self) -> Callable[..., Any]:
        return exception_handler

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {**super().default_response_headers, "Cache-Control": "no-store"}

    def charge(self, quota: Quota) -> None:
        """Go on while the quota allows it. Raises `RateLimited`."""
        self.tell_quota(quota)
        quota.require()

    def tell_quota(self, quota: Quota) -> None:
        """Have a quota told in the headers of whatever the answer becomes; `traffic` does it."""
        self.quota = quota
        self.request._request.quota = quota  # type: ignore[attr-defined]  # noqa: SLF001 (DRF has no public name)

    @cached_property
    def scope(self) -> Scope:
        """Whose rows the asker sees."""
        return scope_of(self.request.user)

    @property
    def body(self) -> Mapping[str, Any]:
        """The JSON object that was sent; without a body an empty one. Raises `InvalidInput` for other JSON."""
        data = self.request.data
        if not isinstance(data, Mapping):
            raise InvalidInput("The body is not a JSON object.")
        return data

    def require_own(self, row: models.Model) -> None:
        """Raise `Forbidden` for a row that the asker may read but that belongs to the whole installation."""
        if not self.scope.owns(row):
            raise Forbidden("This belongs to the whole installation; only its operators may change it.")

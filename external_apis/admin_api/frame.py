"""The base of every view under ``/api/external``: who may ask, how often, with what, and in which envelope."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, TypeVar, cast

from django.db import models
from pydantic import BaseModel
from rest_framework.authentication import BaseAuthentication
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from external_apis import envelope, request_context, throttling
from external_apis.admin_api.operations import CamelModel, Operation, PageQuery, Query, operation_of, read_query
from external_apis.admin_api.schema import ResourceSchema
from external_apis.authentication import BearerAuthentication, KeyHolder
from external_apis.bodies import check_length
from external_apis.errors import ApiManagerError, EndpointNotFound, Forbidden, InvalidInput
from external_apis.json_views import JsonView
from external_apis.paging import recent_total, rows_between
from external_apis.provider_input import read_body
from external_apis.tenancy import EVERYTHING

_Model = TypeVar("_Model", bound=models.Model)
_NOT_A_METHOD = Operation("", "", None, BaseModel)


class ResourceView(JsonView):
    """Methods are declared by `operations`; what they return is made by `answer` and `page`."""

    authentication_classes: Sequence[type[BaseAuthentication]] = (BearerAuthentication,)
    permission_classes = ()
    http_method_names = ["get", "head", "post", "put", "patch", "delete"]  # noqa: RUF012 (as the base class has it)
    schema: ResourceSchema | None = ResourceSchema()

    query: Query

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let through who is known, has slots left and holds the scope, with a query that the method has."""
        # There is one renderer: nothing is negotiated.
        request.accepted_renderer, request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
        check_length(request)
        self._admit(request)
        scope = self.operation.scope
        if scope is not None and not self.asker.has_scope(scope):
            raise Forbidden(f"This needs the scope {scope}.", details={"scope": scope})
        self.check_query(request)
        self.query = read_query(self.operation.query, request.query_params)
        if self.operation.body is None and int(request.META.get("CONTENT_LENGTH") or 0):
            read_body(CamelModel, self.body)  # there is nothing that could stand in it

    @property
    def asker(self) -> KeyHolder:
        """Whose key or token was sent."""
        return cast("KeyHolder", self.request.user)

    @cached_property
    def operation(self) -> Operation:
        """What the method of this request was declared as."""
        handler = getattr(self, (self.request.method or "").lower(), None)
        return operation_of(handler) or _NOT_A_METHOD

    @cached_property
    def given(self) -> dict[str, Any]:
        """The body under the names that the services know, of what was sent alone. Raises `InvalidInput`."""
        model = self.operation.body
        if model is None:
            raise TypeError(f"{self.operation.name} is declared without a body")
        return read_body(model, self.body).model_dump(mode="json", exclude_unset=True)

    def answer(self, data: Any, *, status: int | None = None, headers: Mapping[str, str] | None = None) -> Response:
        """Return data in the envelope, with the status that the method was declared with."""
        return Response(envelope.success(data), status=status or self.operation.status, headers=headers)

    def page(
        self,
        rows: models.QuerySet[_Model],
        show: Callable[[_Model], Any],
        count: Callable[[models.QuerySet[_Model], str], int] = recent_total,
        read: Callable[[models.QuerySet[_Model], int, int], list[_Model]] = rows_between,
    ) -> Response:
        """Return the page of rows that the query asks for, each as ``show`` shows it."""
        found, pages = self.find_page(rows, count, read)
        return self.answer_page([show(row) for row in found], pages)

    def find_page(
        self,
        rows: models.QuerySet[_Model],
        count: Callable[[models.QuerySet[_Model], str], int] = recent_total,
        read: Callable[[models.QuerySet[_Model], int, int], list[_Model]] = rows_between,
    ) -> tuple[list[_Model], dict[str, Any]]:
        """Return the rows of the page that the query asks for, and what the envelope tells of it.

        The last page tells the total by itself, others ask ``count``. Whether there is a next one is always known and
        never estimated: one row more is looked for.
        """
        assert isinstance(self.query, PageQuery)  # noqa: S101 (tells the type checker)
        page, per_page = self.query.page, self.query.per_page
        first = (page - 1) * per_page
        found = read(rows, first, per_page + 1)
        end, has_next = first + len(found), len(found) > per_page
        # What decides about the rows: the route, who asks, and the filters.
        counted = partial(count, rows, repr((type(self), self.kwargs, self.scope, self.query.filters())))
        total = max(counted(), end) if has_next else end if found or not first else min(counted(), first)
        return found[:per_page], envelope.pagination(page, per_page, total, has_next=has_next)

    def answer_page(self, items: list[Any], pages: Mapping[str, Any]) -> Response:
        """Return items in the envelope of a list."""
        return Response(envelope.success(items, pages))

    def require_operator(self) -> None:
        """Raise `Forbidden` for somebody who is bound to a tenant."""
        if self.scope.tenant_id != EVERYTHING.tenant_id:
            raise Forbidden("Only operators of the whole installation may do this.")

    def require_live(self) -> None:
        """Raise `Forbidden` for a test key, where what is changed has no sandbox of its own."""
        if self.scope.is_sandbox:
            raise Forbidden("A test key changes the sandbox alone, and this is of what is live.")

    def charge_address(self) -> None:
        """Take one of the slots of the address of whom nothing else is known. Raises `RateLimited`."""
        self.charge(throttling.charge_address(request_context.current().address))

    def handle_exception(self, exc: Exception) -> Response:
        # Services know our own names of the fields; those of a body that was refused here are the sender's already.
        if isinstance(exc, InvalidInput | Forbidden) and "given" in vars(self):
            exc = _in_camel_case(exc)
        return super().handle_exception(exc)

    def _admit(self, request: Request) -> None:
        """Find out who asks and take one of their slots, or one of the address's where nobody is known."""
        if self.operation.is_open:
            self.charge(throttling.charge_open(request_context.current().address))
            return
        try:
            self.perform_authentication(request)
        except ApiManagerError:
            self.charge_address()
            raise
        self.charge(throttling.charge_key(self.asker))


class UnknownEndpoint(ResourceView):
    """Stands behind all routes of the prefix."""

    authentication_classes = ()
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        request.accepted_renderer, request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
        self.charge_address()
        raise EndpointNotFound("There is no such endpoint.")


def _in_camel_case(error: InvalidInput | Forbidden) -> InvalidInput | Forbidden:
    """Rename the first step of each field's path; what is inside of a field is stored data with keys of its own."""
    message, errors = error.message, []
    for item in error.details.get("errors", ()):
        name, dot, inside = item["path"].partition(".")
        shown = f"{envelope.camel_name(name)}{dot}{inside}"
        message = message.replace(item["path"], shown)
        errors.append({**item, "path": shown})
    return type(error)(message, details={**error.details, "errors": errors} if errors else error.details)

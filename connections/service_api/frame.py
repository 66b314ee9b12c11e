"""The base of every view under ``/exsvc``: who may ask, how often, and with what."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

from django.conf import settings
from pydantic import BaseModel
from rest_framework.authentication import BaseAuthentication
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from connections.service_api.authentication import ServiceAuthentication
from connections.service_api.schema import ServiceSchema
from external_apis import request_context, throttling
from external_apis.admin_api.operations import Decorator, Operation, Query, operation_of, read_query
from external_apis.bodies import check_length
from external_apis.errors import ApiManagerError, Forbidden, NotFound
from external_apis.json_views import JsonView
from external_apis.key_holder import KeyHolder

INSTALLATION = "installation"
"""Shares the limit of a tenant among all who are bound to none."""

_NOT_A_METHOD = Operation("", "", None, BaseModel)


class ServiceView(JsonView):
    """Methods are declared by `serves`."""

    authentication_classes: Sequence[type[BaseAuthentication]] = (ServiceAuthentication,)
    permission_classes = ()
    metadata_class = None  # there is nothing to tell that the OpenAPI document does not
    schema: ServiceSchema | None = ServiceSchema()

    query: Query

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let through who is known, has slots left and holds the scope, with a query that the method has."""
        request.accepted_renderer, request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
        self._admit(request)
        check_length(request)
        scope = self.operation.scope
        if scope is not None and not self.asker.has_scope(scope):
            raise Forbidden(f"This needs the scope {scope}.", details={"scope": scope})
        self.check_query(request)
        self.query = read_query(self.operation.query, request.query_params)

    @property
    def asker(self) -> KeyHolder:
        """Whose key or token was sent."""
        return cast("KeyHolder", self.request.user)

    @cached_property
    def operation(self) -> Operation:
        """What the method of this request was declared as."""
        handler = getattr(self, (self.request.method or "").lower(), None)
        return operation_of(handler) or _NOT_A_METHOD

    def _admit(self, request: Request) -> None:
        """Find out who asks and take one of the tenant's slots, or one of the address's where nobody is known.

        Of a key with a limit of its own that counts too; the one with less left is told.
        """
        try:
            self.perform_authentication(request)
        except ApiManagerError:
            self.charge_address()
            raise
        own = throttling.charge_own_limit(self.asker)
        if own is not None:
            self.charge(own)
        name = self.scope.tenant_id or INSTALLATION
        self.charge(throttling.charge_tenant(f"exsvc:{name}", settings.SERVICE_API_RATE_LIMIT))
        if own is not None and own.remaining < self.quota.remaining:
            self.tell_quota(own)

    def charge_address(self) -> None:
        """Raise `RateLimited` where the address that nobody else is known of has no slot left."""
        self.charge(throttling.charge_address(request_context.current().address))


class UnknownService(ServiceView):
    """Stands behind all routes of the prefix."""

    authentication_classes = ()
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        request.accepted_renderer, request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
        self.charge_address()
        raise NotFound("There is nothing at this address.")


def serves(  # noqa: PLR0917
    name: str,
    scope: str | None,
    summary: str,
    answer: type[BaseModel],
    body: type[BaseModel] | None = None,
    query: type[Query] = Query,
    status: int = 200,
) -> Decorator:
    """Declare a method: it works by this and is documented by it. ``scope`` None means any valid token."""

    def declare(method: Any) -> Any:
        method.operation = Operation(name, summary, scope, answer, query, body, status)
        return method

    return declare

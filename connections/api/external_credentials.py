"""``/api/external/connections/{id}/credentials`` and ``/client``: for programs that call providers themselves."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.urls import path
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from connections.client_facts import describe_client
from connections.handover import hand_over
from external_apis import kept_keys
from external_apis.admin_api.frame import ResourceView
from external_apis.admin_api.operations import CamelAnswer, Query, reads
from external_apis.authentication import BearerAuthentication
from external_apis.json_output import Timestamp
from external_apis.models import Environment


class ConnectionCredentials(CamelAnswer):
    id: str
    name: str
    """The slugs of provider and connection, with a slash between them."""
    auth_type: str
    credentials: dict[str, Any]
    """The connection's own values in clear, under the names that they are stored by; never a refresh token, and no
    secret that the provider's connections share."""
    token_type: str
    expires_at: Timestamp | None
    """When the access token ends."""
    scopes: list[str]


class ConnectionClient(CamelAnswer):
    """How calls through the gateway are to be made.

    ``pagination`` and ``url_variables`` are stored data and keep their own keys.
    """

    id: str
    name: str
    base_url: str
    url_variables: dict[str, str | None]
    """What a path may name in braces; null where the connection lacks it."""
    request_encoding: Literal["json", "form"]
    graphql_path: str | None
    pagination: dict[str, Any] | None


class ReferenceQuery(Query):
    environment: Environment | None = None
    """Which of the providers is meant that share a slug."""


class CredentialsQuery(ReferenceQuery):
    min_valid: Annotated[int, Field(ge=0, le=86_400, alias="min_valid")] = 60
    """Renew the token first if fewer seconds are left than these (of a short-lived one: than half its life)."""


class KeptBearerAuthentication(BearerAuthentication):
    """Saves a query, as the gateway does: a revoked key is dead within a second."""

    finder = kept_keys


class CredentialsPage(ResourceView):
    authentication_classes = (KeptBearerAuthentication,)

    @reads(
        "get_connection_credentials",
        "credentials:read",
        ConnectionCredentials,
        "Read its credentials in clear, the token renewed where it is near its end; the audit log has each reading",
        CredentialsQuery,
    )
    def get(self, request: Request, connection_id: str) -> Response:
        assert isinstance(self.query, CredentialsQuery)  # noqa: S101 (tells the type checker)
        query = self.query
        read = hand_over(connection_id, self.scope, min_valid_seconds=query.min_valid, environment=query.environment)
        shown = ConnectionCredentials(
            id=read.row.pk,
            name=read.name,
            auth_type=read.auth_type,
            credentials=dict(read.values),
            token_type=read.token_type,
            expires_at=read.expires_at,
            scopes=read.scopes,
        )
        return self.answer(shown.model_dump(mode="json", by_alias=True))


class ClientPage(ResourceView):
    @reads(
        "get_connection_client",
        "proxy",
        ConnectionClient,
        "Show what a client needs to know to call through the gateway",
        ReferenceQuery,
    )
    def get(self, request: Request, connection_id: str) -> Response:
        assert isinstance(self.query, ReferenceQuery)  # noqa: S101 (tells the type checker)
        facts = describe_client(connection_id, self.scope, self.query.environment)
        return self.answer(ConnectionClient(**facts).model_dump(mode="json", by_alias=True))


# A reference may have a slash in it.
routes = [
    path("connections/<path:connection_id>/credentials", CredentialsPage.as_view()),
    path("connections/<path:connection_id>/client", ClientPage.as_view()),
]

"""Rows for tests, made through the product's own service layer where it has one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import Permission, User
from django.utils import timezone

from connections.editing import create_connection
from connections.models import ExternalApiConnection, ExternalApiCredential
from external_apis import keys
from external_apis.models import Account, ExternalApi, Partner, Tenant
from external_apis.providers import create_external_api

PASSWORD = "a password of the tests"
_numbers = itertools.count(1)


def make_tenant(slug: str = "") -> Tenant:
    slug = slug or f"tenant-{next(_numbers)}"
    return Tenant.objects.create(slug=slug, name=slug.title())


def make_partner(tenant: Tenant | None = None, slug: str = "") -> Partner:
    slug = slug or f"partner-{next(_numbers)}"
    return Partner.objects.create(slug=slug, name=slug.title(), tenant=tenant)


def make_user(
    username: str = "", *, tenant: Tenant | None = None, permissions: Sequence[str] = (), **fields: Any
) -> User:
    """A staff user with `PASSWORD`; ``permissions`` are ``app_label.codename``. With a tenant it is bound to it."""
    username = username or f"user-{next(_numbers)}"
    user = User.objects.create_user(username, password=PASSWORD, **{"is_staff": True, **fields})
    for name in permissions:
        app_label, codename = name.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app_label, codename=codename))
    if tenant is not None:
        bind(user, tenant)
    return user


def bind(user: User, tenant: Tenant) -> Account:
    """Give the user's account to a tenant."""
    account: Account = user.external_apis_account
    account.tenant = tenant
    account.save()
    return account


MANAGER = tuple(
    f"{model[0]}.{action}_{model[1]}"
    for model in (("external_apis", "externalapi"), ("connections", "externalapiconnection"))
    for action in ("view", "add", "change", "delete")
)
"""Every permission on providers and connections."""


def provider_body(**fields: Any) -> dict[str, Any]:
    """A body that makes a bearer provider; ``api_config`` is merged into the default one."""
    config = {"base_url": "https://api.example.com/v1", "auth_type": "bearer", **fields.pop("api_config", {})}
    slug = fields.pop("slug", "") or f"provider-{next(_numbers)}"
    return {"name": slug.title(), "slug": slug, "category": "other", "api_config": config, **fields}


def make_provider(**fields: Any) -> ExternalApi:
    """A stored provider; ``tenant`` and ``partner`` may be given as rows."""
    for name, key in (("tenant", "sales_channel_id"), ("partner", "partner_id")):
        if (row := fields.pop(name, None)) is not None:
            fields[key] = row.pk
    return create_external_api(provider_body(**fields))


def make_connection(api: ExternalApi | None = None, **fields: Any) -> ExternalApiConnection:
    """A stored connection with a bearer token, unless ``credentials`` say otherwise."""
    if (tenant := fields.pop("tenant", None)) is not None:
        fields["sales_channel_id"] = tenant.pk
    fields.setdefault("connection_name", f"Connection {next(_numbers)}")
    fields.setdefault("credentials", {"access_token": f"token-of-the-tests-{next(_numbers):06d}"})
    return create_connection(api or make_provider(), fields)


def make_key(**fields: Any) -> keys.Created:
    """A stored secret live key of the whole installation that may do everything, with its token."""
    if (tenant := fields.pop("tenant", None)) is not None:
        fields["tenant_id"] = tenant.pk
    defaults = {"title": f"Key {next(_numbers)}", "type": "secret", "scopes": ["*"]}
    return keys.create({**defaults, **fields})


def make_many_connections(api: ExternalApi, count: int, tenant: Tenant | None = None) -> None:
    """Insert ``count`` connections with sealed credentials in bulk."""
    size = 2_000
    for start in range(0, count, size):
        numbers = [next(_numbers) for _ in range(start, min(start + size, count))]
        rows = [
            ExternalApiConnection(
                external_api=api, tenant=tenant, connection_name=f"Many {number}", slug=f"many-{number}"
            )
            for number in numbers
        ]
        ExternalApiConnection.objects.bulk_create(rows)
        credentials = [
            ExternalApiCredential(
                connection=row, tenant=tenant, secrets={"access_token": f"many-{row.pk}"}, expires_at=timezone.now()
            )
            for row in rows
        ]
        for credential in credentials:
            credential.describe_secrets()
        ExternalApiCredential.objects.bulk_create(credentials)

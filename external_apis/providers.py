"""Create, change, find and open providers."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, NoReturn

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from external_apis import api_config, audit, catalogue
from external_apis.api_config import ApiConfig
from external_apis.config_patch import FACTS_SUFFIX, merged, replaced_names, without_facts
from external_apis.destinations import destinations
from external_apis.errors import Conflict, ConnectionInactive, Forbidden, NotFound
from external_apis.ids import can_name
from external_apis.models import ExternalApi, Partner, Tenant
from external_apis.provider_input import ProviderChanges, ProviderInput, read_body, refuse_given_id
from external_apis.resolution import Resolution, explain, resolve
from external_apis.tenancy import EVERYTHING, Scope

__all__ = [
    "DecryptedApiConfig",
    "Resolution",
    "config_with_facts",
    "create_external_api",
    "delete_external_api",
    "explain",
    "find",
    "find_by_id_or_slug",
    "get_api_config",
    "live",
    "open_config",
    "require_active",
    "resolve",
    "restore_external_api",
    "update_external_api",
]


@dataclass(frozen=True)
class DecryptedApiConfig:
    """A provider with its configuration opened (seed 000). Its ``repr`` shows no secret; it cannot be pickled."""

    api: ExternalApi
    api_config: ApiConfig

    def __repr__(self) -> str:
        return f"<DecryptedApiConfig {self.api.id}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("An opened configuration is not pickled.")


def live() -> QuerySet[ExternalApi]:
    """Providers that are not deleted."""
    return ExternalApi.objects.filter(deleted_at=None)


def find(reference: str, scope: Scope = EVERYTHING) -> ExternalApi:
    """Return the live provider of an id that the scope may read. Raises `NotFound` in the seed's words."""
    api = _by_id(reference, scope)
    if api is None:
        raise NotFound(f"External API {reference if can_name(reference) else ascii(reference)} not found")
    return api


def find_by_id_or_slug(reference: str, scope: Scope = EVERYTHING) -> ExternalApi:
    """Return the provider of an id, or what a slug resolves to within the scope, inactive ones included.

    Raises `NotFound` and `Conflict`.
    """
    found = _by_id(reference, scope)
    return found or resolve(reference, tenant=scope.tenant_id, is_sandbox=scope.is_sandbox, with_inactive=True)


def create_external_api(data: Mapping[str, Any], scope: Scope = EVERYTHING) -> ExternalApi:
    """Validate and store a provider from the seed's body; secrets in ``api_config`` are sealed.

    Raises `InvalidInput` or `InvalidConfiguration` with field paths, and `Conflict` where a live one stands already.
    """
    body = read_body(ProviderInput, data)
    refuse_given_id(body.id, scope)
    config = api_config.parse(_with_catalogue_defaults(body), environment=body.environment)
    stored, secrets = api_config.split(config)
    tenant = _tenant(body.sales_channel_id, scope)
    api = ExternalApi(
        name=body.name,
        slug=body.slug,
        category=body.category,
        provider=body.provider or body.slug,
        description=body.description,
        metadata=body.metadata,
        api_config=stored,
        secrets=secrets,
        status=body.status,
        is_sandbox=scope.sandbox_flag(body.is_sandbox if "is_sandbox" in body.model_fields_set else None),
        environment=body.environment,
        tenant=tenant,
        partner=_partner(body.partner_id, tenant),
    )
    if body.id:
        if ExternalApi.objects.filter(pk=body.id).exists():
            raise Conflict(f"An external API with the id {body.id} exists already.")
        api.id = body.id
    with transaction.atomic():
        _save(api)
        audit.record("provider.created", api, audit.changed_fields(api))
    return api


def update_external_api(api: ExternalApi, data: Mapping[str, Any], scope: Scope = EVERYTHING) -> ExternalApi:
    """Change a provider. ``api_config`` is merged into the stored one (RFC 7396: null removes).

    A secret that is not mentioned stays; what answers show in a secret's place (``key_encrypted``) may be sent back
    and changes nothing. Blocks of another auth type than the new one are dropped.

    Raises as `create_external_api`, and `Forbidden` where stored credentials would be sent to another origin and the
    scope does not read credentials: pointing a service at a host of one's own is a way of reading them.
    """
    body = read_body(ProviderChanges, data)
    if "is_sandbox" in body.model_fields_set:
        scope.sandbox_flag(body.is_sandbox)
    with transaction.atomic():
        api = ExternalApi.objects.select_for_update(of=("self",)).get(pk=api.pk)
        before = copy(api)
        for name in body.model_fields_set - {"api_config"}:
            setattr(api, name, getattr(body, name))
        # Nothing else touches the configuration, and an unreadable row can still be renamed or switched off.
        if body.model_fields_set & {"api_config", "environment"}:
            _reconfigure(api, body.api_config)
            if not scope.reads_credentials:
                _require_same_destinations(api, before)
        _save(api)
        audit.record("provider.updated", api, audit.changed_fields(api, before))
    return api


def delete_external_api(api: ExternalApi) -> None:
    """Delete softly: the provider's connections cannot be used until it is restored."""
    api.deleted_at = timezone.now()
    with transaction.atomic():
        api.save(update_fields=["deleted_at"])
        audit.record("provider.deleted", api)


def restore_external_api(api: ExternalApi) -> None:
    """Undo a soft delete. Raises `Conflict` where another live provider has taken its place."""
    api.deleted_at = None
    with transaction.atomic():
        _save(api)
        audit.record("provider.restored", api)


def get_api_config(reference: str, scope: Scope = EVERYTHING) -> DecryptedApiConfig:
    """Return a provider, by id or by slug as `resolve` finds it, with its secrets opened.

    Raises `NotFound`, `Conflict`, `ConnectionInactive` for one of an inactive tenant, and `VaultError`.
    """
    api = _by_id(reference, scope) or resolve(reference, tenant=scope.tenant_id, is_sandbox=scope.is_sandbox)
    require_active(api.tenant)
    return open_config(api)


def require_active(tenant: Tenant | None) -> None:
    """Raise `ConnectionInactive` for what belongs to an inactive tenant; None, the whole installation, is fine."""
    if tenant is not None and not tenant.is_active:
        raise ConnectionInactive(f"Tenant {tenant.slug} is inactive.")


def open_config(api: ExternalApi) -> DecryptedApiConfig:
    """Open the configuration of a loaded row. Raises `VaultError` where it cannot be opened."""
    return DecryptedApiConfig(api=api, api_config=api_config.join(api.api_config, api.secrets))


def config_with_facts(api: ExternalApi) -> dict[str, Any]:
    """The configuration as answers show it: ``client_secret_encrypted`` holds facts, never the secret.

    Opens nothing. Raises `VaultError` where the sealed column is damaged.
    """
    facts = {f"{path}{FACTS_SUFFIX}": dict(fact) for path, fact in api.secret_facts().items()}
    return api_config.joined_data(api.api_config, facts)


# --- parts --------------------------------------------------------------------------------------------------------


def _by_id(reference: str, scope: Scope) -> ExternalApi | None:
    if not can_name(reference):
        return None
    return scope.readable(live()).select_related("tenant").filter(pk=reference).first()


def _reconfigure(api: ExternalApi, given: Mapping[str, Any]) -> None:
    patch = without_facts(given, api.fingerprints)
    secrets = api.secrets_beside(replaced_names(api.api_config, patch, api.fingerprints))
    data = merged(api_config.joined_data(api.api_config, secrets), patch)
    api.api_config, changed = api_config.split(api_config.parse(data, environment=api.environment))
    if changed != dict(secrets) or set(changed) != set(api.fingerprints):
        api.secrets = changed


def _require_same_destinations(api: ExternalApi, before: ExternalApi) -> None:
    has_moved = destinations(api.api_config) - destinations(before.api_config)
    # Connections are the upper floor's; the relation is named here and not imported.
    if has_moved and (before.fingerprints or ExternalApi.objects.filter(pk=api.pk, connections__isnull=False).exists()):
        message = "To change where stored credentials are sent (the origin of a URL) needs the scope credentials:read."
        raise Forbidden(message, details={"scope": "credentials:read"})


def _save(api: ExternalApi) -> None:
    try:
        with transaction.atomic():
            api.save()
    except IntegrityError:
        raise Conflict(
            f"An external API {api.slug!r} exists already for this environment, sandbox flag, tenant and partner."
        ) from None


def _tenant(tenant_id: str | None, scope: Scope) -> Tenant | None:
    tenant_id = tenant_id or scope.tenant_id
    if tenant_id is None:
        return None
    if scope.tenant_id not in (None, tenant_id):
        raise NotFound(f"Tenant {tenant_id} not found")
    tenant = Tenant.objects.filter(pk=tenant_id).first()
    if tenant is None:
        raise NotFound(f"Tenant {tenant_id} not found")
    return tenant


def _partner(partner_id: str | None, tenant: Tenant | None) -> Partner | None:
    if partner_id is None:
        return None
    partner = Partner.objects.filter(pk=partner_id).first()
    if partner is None or (tenant is not None and partner.tenant_id not in (None, tenant.pk)):
        raise NotFound(f"Partner {partner_id} not found")
    return partner


def _with_catalogue_defaults(body: ProviderInput) -> dict[str, Any]:
    """Seed 000's own Stripe body says nothing of form encoding: the catalogue entry of the slug knows."""
    if "request_encoding" in body.api_config:
        return body.api_config
    preset = catalogue.find(body.slug)
    encoding = preset.api_config.get("request_encoding") if preset else None
    return {**body.api_config, "request_encoding": encoding or "json"}

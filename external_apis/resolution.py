"""Which provider row a slug means for whom: the partner's, the tenant's or the global one, and why.

A partner's row goes before a tenant's, and of two that name the partner the one that names the tenant as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Q

from external_apis.errors import Conflict, NotFound
from external_apis.ids import can_name
from external_apis.models import ExternalApi


@dataclass(frozen=True)
class Step:
    """One candidate and why it was or was not chosen."""

    api_id: str
    level: str
    environment: str
    is_sandbox: bool
    is_chosen: bool
    reason: str


@dataclass(frozen=True)
class Resolution:
    """The outcome of `explain`: it names rows and reasons, never a secret."""

    slug: str
    chosen: ExternalApi | None
    steps: tuple[Step, ...]
    problem: str = ""


def resolve(
    slug: str,
    environment: str | None = None,
    tenant: str | None = None,
    partner: str | None = None,
    *,
    is_sandbox: bool | None = None,
    with_inactive: bool = False,
) -> ExternalApi:
    """Return the most specific active provider of a slug: the partner's, then the tenant's, then the global one.

    ``tenant`` and ``partner`` are ids. Without ``environment`` (or ``is_sandbox``) the production live one is
    taken where there is one, else the only environment that has the slug; two others are ambiguous.
    ``with_inactive`` is for those who manage providers and do not call them.
    Raises `NotFound`, and `Conflict` where the choice is ambiguous.
    """
    resolution = explain(slug, environment, tenant, partner, is_sandbox=is_sandbox, with_inactive=with_inactive)
    if resolution.chosen is None:
        error = Conflict if resolution.problem.startswith("ambiguous") else NotFound
        message = f"External API {slug if can_name(slug) else ascii(slug)} not found"
        raise error(message if error is NotFound else f"External API {slug} is {resolution.problem}")
    return resolution.chosen


def explain(
    slug: str,
    environment: str | None = None,
    tenant: str | None = None,
    partner: str | None = None,
    *,
    is_sandbox: bool | None = None,
    with_inactive: bool = False,
) -> Resolution:
    """Resolve a slug and tell of every candidate why it was or was not chosen. One query.

    Rows of other tenants and partners are no candidates: an explanation never speaks of them.
    """
    rows = ExternalApi.objects.select_related("tenant").filter(
        Q(tenant=None) | Q(tenant=tenant), Q(partner=None) | Q(partner=partner), slug=slug, deleted_at=None
    )
    if not all(can_name(given) for given in (slug, environment, tenant, partner) if given is not None):
        rows = rows.none()
    candidates = sorted(rows, key=lambda api: (api.partner_id is None, api.tenant_id is None, api.pk))
    refused = {api.pk: _refusal(api, environment, is_sandbox, with_inactive) for api in candidates}
    fitting = [api for api in candidates if not refused[api.pk]]
    kinds = sorted({(api.environment, api.is_sandbox) for api in fitting})
    problem, chosen = "", None
    if not fitting:
        problem = "no active provider fits"
    elif ("production", False) in kinds or len(kinds) == 1:
        kind = ("production", False) if ("production", False) in kinds else kinds[0]
        chosen = next(api for api in fitting if (api.environment, api.is_sandbox) == kind)
    else:
        names = ", ".join(f"{name}{' sandbox' if sandbox else ''}" for name, sandbox in kinds)
        problem = f"ambiguous: name one of its environments ({names})"
    steps = tuple(
        Step(
            api_id=api.pk,
            level=_level(api),
            environment=api.environment,
            is_sandbox=api.is_sandbox,
            is_chosen=api is chosen,
            reason=refused[api.pk] or ("the most specific that fits" if api is chosen else "another one goes before"),
        )
        for api in candidates
    )
    return Resolution(slug=slug, chosen=chosen, steps=steps, problem=problem)


def _level(api: ExternalApi) -> str:
    return "partner" if api.partner_id else "tenant" if api.tenant_id else "global"


def _refusal(api: ExternalApi, environment: str | None, is_sandbox: bool | None, with_inactive: bool) -> str:
    if api.status == "inactive" and not with_inactive:
        return "is inactive"
    if api.tenant is not None and not api.tenant.is_active and not with_inactive:
        return "its tenant is inactive"
    if environment is not None and api.environment != environment:
        return f"is of environment {api.environment}"
    if is_sandbox is not None and api.is_sandbox != is_sandbox:
        return "is a sandbox" if api.is_sandbox else "is live"
    return ""

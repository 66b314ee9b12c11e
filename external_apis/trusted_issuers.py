"""``SERVICE_API_ISSUERS``: whose tokens are accepted beside our own, and where in them tenant and scopes stand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from external_apis.url_rules import base_url_problem

__all__ = ["TrustedIssuer", "parse"]

_Text = Annotated[str, Field(min_length=1, max_length=500)]


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """``issuer`` is compared letter by letter with ``iss``; ``audience`` has to be (in) ``aud``.

    The claim ``tenant_claim`` holds a tenant's id or slug, ``scopes_claim`` a list, or a text with spaces between.
    """

    issuer: str
    audience: str
    tenant_claim: str
    scopes_claim: str


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    issuer: _Text
    audience: _Text | None = None
    tenant_claim: _Text = "tenant_id"
    scopes_claim: _Text = "scope"


_entries = TypeAdapter(list[_Entry])


def parse(text: str, default_audience: str) -> tuple[TrustedIssuer, ...]:
    """Read the JSON list; an empty text trusts nobody.

    Raises ValueError that says what is wrong and quotes nothing but the place.
    """
    if not text:
        return ()
    try:
        entries = _entries.validate_python(json.loads(text))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, problem["loc"])) or "(all)"
        raise ValueError(f"{place}: {problem['msg']}") from None
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    for entry in entries:
        if base_url_problem(entry.issuer, https_only=True, loopback_may_be_http=True):
            raise ValueError("an issuer is an https URL without query (http on the loopback alone)")
    if len({entry.issuer for entry in entries}) != len(entries):
        raise ValueError("an issuer stands twice in it")
    return tuple(
        TrustedIssuer(entry.issuer, entry.audience or default_audience, entry.tenant_claim, entry.scopes_claim)
        for entry in entries
    )

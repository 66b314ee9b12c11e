"""Which account a person who signed in has, and with which rights: the claims decide, at every sign-in anew.

An account is bound to the subject at the issuer. The e-mail address is believed only where the provider calls it
verified: then it leads to the one account that has it, or stands in the new one.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from social_django.models import UserSocialAuth

from external_apis import audit
from external_apis.errors import Forbidden
from external_apis.models import Account, Tenant
from external_apis.project_settings import APPS
from external_apis.sign_on.claims import text, values
from external_apis.sign_on.provider import StaffProvider

__all__ = ["DEFAULT_GROUP", "admit", "subject_id"]

DEFAULT_GROUP = "operators"
"""What new accounts belong to unless a claim names groups; made at the first use, and the operators' to change."""


def admit(claims: Mapping[str, Any]) -> Any:
    """Return the account of whoever has these verified claims, brought up to date.

    It may turn out to be no staff (any longer): then it is stored without rights and returned so. Raises `Forbidden`
    for somebody who gets no account, and where the claims name no tenant that exists.
    """
    try:
        return _admitted(claims)
    except IntegrityError:  # the same person came in by another tab at the same moment, and has the account now
        return _admitted(claims)


def _admitted(claims: Mapping[str, Any]) -> Any:
    uid = subject_id(str(claims["iss"]), str(claims["sub"]))
    with transaction.atomic():
        bound = UserSocialAuth.objects.select_related("user").filter(provider=StaffProvider.name, uid=uid).first()
        user = bound.user if bound is not None else _by_email(claims) or _new_user(claims)
        is_new = user.pk is None
        before = (user.is_staff, user.is_superuser)
        _set_rights(user, claims)
        user.save()
        if bound is None:
            UserSocialAuth.objects.create(user=user, provider=StaffProvider.name, uid=uid)
        if user.is_staff:
            _set_tenant(user, claims)
            _set_groups(user, claims, is_new=is_new)
        if is_new or before != (user.is_staff, user.is_superuser):
            rights = {"is_staff": [before[0], user.is_staff], "is_superuser": [before[1], user.is_superuser]}
            audit.record_about("user.created" if is_new else "user.rights_changed", "user", str(user.pk), rights)
    return user


def subject_id(issuer: str, subject: str) -> str:
    """Return what an account is bound to: a subject means somebody only together with its issuer."""
    return hashlib.sha256(json.dumps([issuer, subject]).encode()).hexdigest()


def _by_email(claims: Mapping[str, Any]) -> Any:
    """Return the one account with the person's verified address, unless it is bound to another subject already."""
    email = _verified_email(claims)
    if not email:
        return None
    found = list(get_user_model()._default_manager.filter(email__iexact=email)[:2])
    if len(found) != 1 or UserSocialAuth.objects.filter(user=found[0], provider=StaffProvider.name).exists():
        return None
    # Nobody's account loses its rights to a stranger to whom the provider gives none.
    return found[0] if _is_staff(claims, known=found[0].is_staff) else None


def _new_user(claims: Mapping[str, Any]) -> Any:
    """Make, and do not store, an account for somebody whom the claims call staff."""
    if not _is_staff(claims, known=False):
        raise Forbidden("Your account at the sign-in provider is not one of this product's staff.")
    email = _verified_email(claims)
    if claims.get("email") and not email:
        raise Forbidden("The sign-in provider has not verified your e-mail address.")
    user = get_user_model()(username=_free_username(claims), email=email)
    user.first_name, user.last_name = text(claims, "given_name")[:150], text(claims, "family_name")[:150]
    user.set_unusable_password()
    return user


def _verified_email(claims: Mapping[str, Any]) -> str:
    email = text(claims, "email")
    # Only the flag itself: some send the text "false".
    if not email or not (claims.get("email_verified") is True or settings.OIDC_TRUST_EMAIL):
        return ""
    try:
        validate_email(email)
    except ValidationError:
        return ""
    return email


def _free_username(claims: Mapping[str, Any]) -> str:
    name = text(claims, "preferred_username")[:100]
    try:
        UnicodeUsernameValidator()(name)
    except ValidationError:
        name = "staff"
    users = get_user_model()._default_manager
    return name if not users.filter(username__iexact=name).exists() else f"{name}-{secrets.token_hex(4)}"


def _is_staff(claims: Mapping[str, Any], *, known: bool) -> bool:
    """Without ``OIDC_STAFF_CLAIM`` nobody becomes staff, and whoever is stays it."""
    if not settings.OIDC_STAFF_CLAIM:
        return known
    return settings.OIDC_STAFF_VALUE in values(claims, settings.OIDC_STAFF_CLAIM) or _is_superuser(claims)


def _is_superuser(claims: Mapping[str, Any]) -> bool:
    claim, wanted = settings.OIDC_STAFF_CLAIM, settings.OIDC_SUPERUSER_VALUE
    return bool(claim and wanted) and wanted in values(claims, claim)


def _set_rights(user: Any, claims: Mapping[str, Any]) -> None:
    user.is_staff = _is_staff(claims, known=user.is_staff)
    if settings.OIDC_SUPERUSER_VALUE:
        user.is_superuser = _is_superuser(claims)
    user.is_superuser = user.is_superuser and user.is_staff


def _set_tenant(user: Any, claims: Mapping[str, Any]) -> None:
    """Superusers belong to the whole installation; other staff to the one tenant that the claim names."""
    if not settings.OIDC_TENANT_CLAIM or user.is_superuser:
        return
    slugs = values(claims, settings.OIDC_TENANT_CLAIM)
    tenant = Tenant.objects.filter(slug__in=slugs).first() if len(slugs) == 1 else None
    if tenant is None:
        raise Forbidden("Your account at the sign-in provider belongs to no tenant that is known here.")
    account, _ = Account.objects.get_or_create(user=user, defaults={"tenant": tenant})
    if account.tenant_id != tenant.pk:
        account.tenant = tenant
        account.save(update_fields=["tenant"])
    user.external_apis_account = account


def _set_groups(user: Any, claims: Mapping[str, Any], *, is_new: bool) -> None:
    if settings.OIDC_GROUPS_CLAIM:
        user.groups.set(Group.objects.filter(name__in=values(claims, settings.OIDC_GROUPS_CLAIM)))
    elif is_new:
        group, is_first = Group.objects.get_or_create(name=DEFAULT_GROUP)
        if is_first:
            group.permissions.set(Permission.objects.filter(content_type__app_label__in=APPS))
        user.groups.add(group)

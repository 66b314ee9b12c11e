"""Attempts to connect: one row for each trip to a provider, and the links that invite somebody to make one."""

from __future__ import annotations

from functools import partial

from django.db import models

from connections.models.connections import ExternalApiConnection
from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import Account, ExternalApi, Partner, Tenant
from external_apis.models.secret_bearing import SecretBearing


class _Invitation(models.Model):
    """For whom a connection is to be made, or which one is to be authorised again."""

    external_api = models.ForeignKey(ExternalApi, on_delete=models.CASCADE, related_name="+")
    connection = models.ForeignKey(
        ExternalApiConnection, on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    partner = models.ForeignKey(Partner, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    user = models.ForeignKey(Account, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    connection_name = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=200, blank=True)
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True


class ConnectLink(_Invitation):
    """A link that lets somebody without an admin account connect one account; used once."""

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "lnk"), editable=False)
    owner = models.ForeignKey(
        Account,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="Who looks after the connection that it makes.",
    )
    return_url = models.CharField(max_length=2000, blank=True)
    origin = models.CharField(max_length=300, blank=True, help_text="The page that is told by postMessage.")
    made_connection = models.ForeignKey(
        ExternalApiConnection, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    error = models.CharField(max_length=500, blank=True)

    def __str__(self) -> str:
        return self.id


class OAuthFlow(SecretBearing, _Invitation):
    """One attempt at a grant. ``secrets`` holds the PKCE verifier, the request token's secret or the device code.

    ``state_digest`` is the SHA-256 of the state that travels; ``bound_to`` names the browser session, API key, link or
    terminal that began the flow, and that alone may finish it.
    """

    class Kind(models.TextChoices):
        AUTHORIZATION_CODE = "authorization_code"
        OAUTH1 = "oauth1"
        DEVICE_CODE = "device_code"

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "flow"), editable=False)
    kind = models.CharField(max_length=20, choices=Kind.choices)
    state_digest = models.CharField(max_length=64, unique=True)
    bound_to = models.CharField(max_length=120)
    redirect_uri = models.CharField(max_length=2000, blank=True)
    requested_scopes = models.JSONField(default=list, blank=True)
    link = models.ForeignKey(ConnectLink, on_delete=models.CASCADE, null=True, blank=True, related_name="flows")
    made_connection = models.ForeignKey(
        ExternalApiConnection, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    error = models.CharField(max_length=500, blank=True)

    def __str__(self) -> str:
        return self.id

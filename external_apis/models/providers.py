"""Provider definitions: seed 000's ``ExternalApi``."""

from __future__ import annotations

from functools import partial

from django.db import models
from django.db.models import Q

from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models.base import Announced, Authored, History, SoftDeleted, Timestamped
from external_apis.models.secret_bearing import SECRET_COLUMNS, SecretBearing
from external_apis.models.tenants import Partner, Tenant


class Category(models.TextChoices):
    SOCIAL = "social"
    PAYMENT = "payment"
    SHIPPING = "shipping"
    EMAIL = "email"
    SMS = "sms", "SMS"
    ANALYTICS = "analytics"
    CRM = "crm", "CRM"
    STORAGE = "storage"
    COMMUNICATION = "communication"
    AUTHENTICATION = "authentication"
    AI = "ai", "AI"
    OTHER = "other"


class ProviderStatus(models.TextChoices):
    ACTIVE = "active"
    INACTIVE = "inactive"
    DEPRECATED = "deprecated"


class Environment(models.TextChoices):
    PRODUCTION = "production"
    STAGING = "staging"
    DEVELOPMENT = "development"


class ExternalApi(Announced, Authored, SecretBearing, Timestamped, SoftDeleted):
    """A provider that may be called: where it is, how it authenticates, what it allows.

    ``api_config`` holds everything but the secrets, which stand sealed in ``secrets`` under their paths
    (``oauth2.client_secret``). Without tenant and partner the row is global.
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "ext_api"), editable=False)
    name = models.CharField(max_length=200)
    slug = models.SlugField(max_length=100)
    category = models.CharField(max_length=20, choices=Category.choices, default=Category.OTHER)
    provider = models.CharField(max_length=100, help_text="Whose API it is: facebook and instagram are both of meta.")
    description = models.TextField(blank=True, default="", db_default="")
    metadata = models.JSONField(
        default=dict,
        db_default=models.Value({}, output_field=models.JSONField()),
        blank=True,
        help_text="Whatever else others want to note about it; nothing here reads it.",
    )
    api_config = models.JSONField(default=dict)
    status = models.CharField(max_length=10, choices=ProviderStatus.choices, default=ProviderStatus.ACTIVE)
    is_sandbox = models.BooleanField(default=False)
    environment = models.CharField(max_length=12, choices=Environment.choices, default=Environment.PRODUCTION)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True, related_name="external_apis")
    partner = models.ForeignKey(Partner, on_delete=models.PROTECT, null=True, blank=True, related_name="external_apis")

    history = History(excluded_fields=SECRET_COLUMNS)

    class Meta:
        verbose_name = "provider"
        ordering = ("slug", "id")
        constraints = (
            models.UniqueConstraint(
                fields=["slug", "environment", "is_sandbox", "tenant", "partner"],
                condition=Q(deleted_at__isnull=True),
                nulls_distinct=False,
                name="external_api_live_unique",
                violation_error_message="A live provider with this slug, environment, sandbox flag, tenant and "
                "partner exists already.",
            ),
        )

    def __str__(self) -> str:
        return self.name

    def changed_names(self) -> tuple[str, ...]:
        return (self.pk, self.slug)

    @property
    def auth_type(self) -> str:
        return str(self.api_config.get("auth_type", ""))

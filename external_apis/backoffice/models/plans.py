"""Plans as data, and who was on which plan when, from which revenue is computed."""

from __future__ import annotations

from functools import partial

from django.db import models

from external_apis.backoffice.models.currencies import CURRENCY_CODE
from external_apis.ids import MAX_LENGTH, new_id
from external_apis.models import Account, Tenant
from external_apis.models.base import Timestamped

MOST_TOKENS = 2**53 - 1
"""The largest number that JavaScript reads exactly."""


class Plan(Timestamped):
    """What an account may be on. ``price_minor`` is for a month, in the currency's minor unit (cents).

    Plans are of the whole installation. An account keeps the slug, so that it never changes; a plan that is not active
    can be given to nobody, and whoever is on it stays.
    """

    id = models.CharField(primary_key=True, max_length=MAX_LENGTH, default=partial(new_id, "plan"), editable=False)
    slug = models.SlugField(max_length=50, unique=True)
    name = models.CharField(max_length=200)
    tokens = models.PositiveBigIntegerField("token allowance", default=0)
    price_minor = models.PositiveBigIntegerField("price a month", default=0, help_text="In cents.")
    currency = models.CharField(max_length=3, default="USD", validators=[CURRENCY_CODE])
    is_active = models.BooleanField(default=True, db_default=True)

    class Meta:
        ordering = ("price_minor", "slug")
        constraints = (
            models.CheckConstraint(condition=models.Q(tokens__lte=MOST_TOKENS), name="plan_tokens_exact"),
            models.CheckConstraint(condition=models.Q(price_minor__lte=MOST_TOKENS), name="plan_price_exact"),
        )

    def __str__(self) -> str:
        return self.name


class PlanPeriod(models.Model):
    """From ``started_at`` to before ``ended_at`` (None: until now) an account was on a plan, at the price of that day.

    It outlives its account, as what was earned does not become less by a deletion: the key is not enforced. It outlives
    its tenant as well, as the installation's own.
    """

    id = models.BigAutoField(primary_key=True)
    account = models.ForeignKey(Account, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+")
    tenant = models.ForeignKey(
        Tenant, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    plan = models.CharField(max_length=50)
    price_minor = models.PositiveBigIntegerField()
    currency = models.CharField(max_length=3)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["account"], condition=models.Q(ended_at=None), name="plan_period_one_open"),
        )
        indexes = (
            models.Index(fields=["tenant", "started_at"], name="plan_period_by_tenant"),
            models.Index(fields=["started_at"], name="plan_period_by_start"),
        )

    def __str__(self) -> str:
        return f"{self.plan} from {self.started_at:%Y-%m-%d}"

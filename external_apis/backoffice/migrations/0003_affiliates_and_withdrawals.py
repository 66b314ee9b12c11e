import functools

import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import external_apis.ids


class Migration(migrations.Migration):
    dependencies = [
        ("backoffice", "0002_ai_models_and_usage"),
        ("external_apis", "0008_one_index_of_outbox_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="Affiliate",
            fields=[
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("updated_at", models.DateTimeField(auto_now=True)),
                ("deleted_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "id",
                    models.CharField(
                        default=functools.partial(external_apis.ids.new_id, "aff"),
                        editable=False,
                        max_length=48,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("code", models.SlugField(db_index=False)),
                ("name", models.CharField(max_length=200)),
                ("email", models.EmailField(max_length=254)),
                (
                    "commission_basis_points",
                    models.PositiveIntegerField(validators=[django.core.validators.MaxValueValidator(10000)]),
                ),
                ("referrals", models.BigIntegerField(default=0, editable=False)),
                ("balance_minor", models.BigIntegerField(default=0, editable=False)),
                (
                    "currency",
                    models.CharField(
                        max_length=3,
                        validators=[
                            django.core.validators.RegexValidator("\\A[A-Z]{3}\\Z", "Three capital letters, as in ISO 4217.")
                        ],
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[("active", "Active"), ("suspended", "Suspended")], default="active", max_length=9
                    ),
                ),
                (
                    "account",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="affiliates",
                        to="external_apis.account",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="affiliates",
                        to="external_apis.tenant",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="Withdrawal",
            fields=[
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("updated_at", models.DateTimeField(auto_now=True)),
                (
                    "id",
                    models.CharField(
                        default=functools.partial(external_apis.ids.new_id, "wdr"),
                        editable=False,
                        max_length=48,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("amount_minor", models.BigIntegerField()),
                ("currency", models.CharField(editable=False, max_length=3)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("approved", "Approved"),
                            ("paid", "Paid"),
                            ("rejected", "Rejected"),
                        ],
                        default="pending",
                        editable=False,
                        max_length=8,
                    ),
                ),
                ("decided_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("decided_by", models.CharField(blank=True, default="", editable=False, max_length=200)),
                (
                    "affiliate",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="withdrawals",
                        to="backoffice.affiliate",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="withdrawals",
                        to="external_apis.tenant",
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="AffiliateEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[("commission", "Commission"), ("reserved", "Reserved"), ("returned", "Returned")],
                        max_length=10,
                    ),
                ),
                ("amount_minor", models.BigIntegerField()),
                ("reference", models.CharField(blank=True, default="", max_length=100)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "affiliate",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="entries",
                        to="backoffice.affiliate",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="external_apis.tenant",
                    ),
                ),
                (
                    "withdrawal",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="entries",
                        to="backoffice.withdrawal",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "affiliate entries",
                "ordering": ["-id"],
            },
        ),
        migrations.AddIndex(
            model_name="affiliate",
            index=models.Index(
                condition=models.Q(("deleted_at", None)), fields=["tenant", "-id"], name="affiliate_list_of_tenant"
            ),
        ),
        migrations.AddIndex(
            model_name="affiliate",
            index=models.Index(
                condition=models.Q(("deleted_at", None)), fields=["status", "-id"], name="affiliate_list_by_status"
            ),
        ),
        migrations.AddConstraint(
            model_name="affiliate",
            constraint=models.UniqueConstraint(
                fields=("tenant", "code"), name="affiliate_code_unique", nulls_distinct=False
            ),
        ),
        migrations.AddConstraint(
            model_name="affiliate",
            constraint=models.CheckConstraint(
                condition=models.Q(("balance_minor__gte", 0)), name="affiliate_balance_not_negative"
            ),
        ),
        migrations.AddConstraint(
            model_name="affiliate",
            constraint=models.CheckConstraint(
                condition=models.Q(("commission_basis_points__lte", 10000)), name="affiliate_commission_at_most_all"
            ),
        ),
        migrations.AddIndex(
            model_name="withdrawal",
            index=models.Index(fields=["tenant", "-id"], name="withdrawal_list_of_tenant"),
        ),
        migrations.AddIndex(
            model_name="withdrawal",
            index=models.Index(fields=["status", "-id"], name="withdrawal_list_by_status"),
        ),
        migrations.AddIndex(
            model_name="withdrawal",
            index=models.Index(fields=["affiliate", "status"], name="withdrawal_of_affiliate"),
        ),
        migrations.AddConstraint(
            model_name="withdrawal",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount_minor__gt", 0)), name="withdrawal_amount_positive"
            ),
        ),
        migrations.AddIndex(
            model_name="affiliateentry",
            index=models.Index(fields=["affiliate", "-id"], name="affiliate_entry_latest"),
        ),
        migrations.AddConstraint(
            model_name="affiliateentry",
            constraint=models.UniqueConstraint(
                condition=models.Q(("reference", ""), _negated=True),
                fields=("affiliate", "reference"),
                name="affiliate_commission_once",
            ),
        ),
    ]

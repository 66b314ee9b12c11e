"""AI models, single calls of them until they are rolled up, and the sums of those."""

import functools

import django.db.models.constraints
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import external_apis.ids


class Migration(migrations.Migration):
    dependencies = [
        ("backoffice", "0001_plans_and_tokens"),
        ("external_apis", "0008_one_index_of_outbox_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="AiCall",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("prompt_tokens", models.BigIntegerField(default=0)),
                ("completion_tokens", models.BigIntegerField(default=0)),
                ("total_tokens", models.BigIntegerField(default=0)),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                ("model_id", models.CharField(max_length=48)),
                ("account_id", models.CharField(blank=True, default="", max_length=48)),
                ("connection_id", models.CharField(max_length=48)),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="external_apis.tenant",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="AiModel",
            fields=[
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("updated_at", models.DateTimeField(auto_now=True)),
                (
                    "id",
                    models.CharField(
                        default=functools.partial(external_apis.ids.new_id, *("aim",)),
                        editable=False,
                        max_length=48,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("name", models.CharField(max_length=200)),
                ("label", models.CharField(max_length=200)),
                ("tier", models.CharField(blank=True, default="", max_length=50)),
                ("supports_media", models.BooleanField(default=False)),
                ("order", models.PositiveIntegerField(editable=False)),
                ("enabled", models.BooleanField(default=True)),
                ("provider", models.CharField(blank=True, default="", max_length=100)),
                ("connection", models.CharField(blank=True, default="", max_length=201)),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="external_apis.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "AI model",
                "ordering": ["order", "id"],
            },
        ),
        migrations.CreateModel(
            name="AiUsageSum",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("prompt_tokens", models.BigIntegerField(default=0)),
                ("completion_tokens", models.BigIntegerField(default=0)),
                ("total_tokens", models.BigIntegerField(default=0)),
                (
                    "dimension",
                    models.CharField(
                        choices=[
                            ("installation", "Installation"),
                            ("total", "Total"),
                            ("model", "Model"),
                            ("user", "User"),
                            ("connection", "Connection"),
                        ],
                        max_length=12,
                    ),
                ),
                ("subject", models.CharField(blank=True, default="", max_length=48)),
                ("grain", models.CharField(max_length=8)),
                ("starts_at", models.DateTimeField()),
                ("calls", models.BigIntegerField(default=0)),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="external_apis.tenant",
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="aimodel",
            index=models.Index(fields=["order", "id"], name="ai_model_in_order"),
        ),
        migrations.AddConstraint(
            model_name="aimodel",
            constraint=models.UniqueConstraint(
                fields=("tenant", "name"), name="ai_model_name_unique", nulls_distinct=False
            ),
        ),
        migrations.AddConstraint(
            model_name="aimodel",
            constraint=models.UniqueConstraint(
                deferrable=django.db.models.constraints.Deferrable["IMMEDIATE"],
                fields=("tenant", "order"),
                name="ai_model_place_unique",
                nulls_distinct=False,
            ),
        ),
        migrations.AddIndex(
            model_name="aiusagesum",
            index=models.Index(fields=["dimension", "grain", "starts_at"], name="ai_usage_sum_of_all"),
        ),
        migrations.AddIndex(
            model_name="aiusagesum",
            index=models.Index(fields=["dimension", "subject", "grain", "starts_at"], name="ai_usage_sum_of_one"),
        ),
        migrations.AddConstraint(
            model_name="aiusagesum",
            constraint=models.UniqueConstraint(
                fields=("tenant", "dimension", "grain", "starts_at", "subject"),
                name="ai_usage_sum_unique",
                nulls_distinct=False,
            ),
        ),
    ]

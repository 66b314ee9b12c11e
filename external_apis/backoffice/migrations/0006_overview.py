import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("backoffice", "0005_visits"),
        ("external_apis", "0008_one_index_of_outbox_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="OverviewMark",
            fields=[
                ("figure", models.CharField(max_length=20, primary_key=True, serialize=False)),
                ("reached_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="OverviewCount",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("figure", models.CharField(max_length=20)),
                ("since", models.DateTimeField()),
                ("number", models.BigIntegerField()),
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
        migrations.CreateModel(
            name="OverviewSum",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("grain", models.CharField(max_length=8)),
                ("starts_at", models.DateTimeField()),
                ("figure", models.CharField(max_length=20)),
                ("number", models.DecimalField(decimal_places=0, max_digits=40)),
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
        migrations.CreateModel(
            name="ResourceSum",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("grain", models.CharField(max_length=8)),
                ("starts_at", models.DateTimeField()),
                ("figure", models.CharField(max_length=60)),
                ("samples", models.BigIntegerField()),
                ("lowest", models.FloatField()),
                ("highest", models.FloatField()),
                ("total", models.FloatField()),
            ],
            options={
                "ordering": ["grain", "starts_at", "figure"],
                "constraints": [
                    models.UniqueConstraint(fields=("grain", "starts_at", "figure"), name="resource_sum_once")
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="overviewcount",
            constraint=models.UniqueConstraint(
                fields=("tenant", "figure", "since"), name="overview_count_once", nulls_distinct=False
            ),
        ),
        migrations.AddIndex(
            model_name="overviewsum",
            index=models.Index(fields=["grain", "starts_at"], name="overview_sum_by_age"),
        ),
        migrations.AddConstraint(
            model_name="overviewsum",
            constraint=models.UniqueConstraint(
                fields=("tenant", "grain", "starts_at", "figure"), name="overview_sum_once", nulls_distinct=False
            ),
        ),
    ]

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("backoffice", "0004_content"),
        ("external_apis", "0008_one_index_of_outbox_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="VisitBatch",
            fields=[
                ("id", models.CharField(max_length=48, primary_key=True, serialize=False)),
                ("applied_at", models.DateTimeField(db_index=True, default=django.utils.timezone.now)),
            ],
        ),
        migrations.CreateModel(
            name="VisitSum",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[("total", "Total"), ("path", "Path"), ("referrer", "Referrer")], max_length=8
                    ),
                ),
                ("name", models.CharField(blank=True, default="", max_length=200)),
                ("grain", models.CharField(max_length=8)),
                ("starts_at", models.DateTimeField()),
                ("visits", models.BigIntegerField()),
                (
                    "tenant",
                    models.ForeignKey(
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
            model_name="visitsum",
            index=models.Index(fields=["tenant", "kind", "grain", "starts_at"], name="visit_sum_of_tenant"),
        ),
        migrations.AddIndex(
            model_name="visitsum",
            index=models.Index(fields=["starts_at"], name="visit_sum_old"),
        ),
        migrations.AddConstraint(
            model_name="visitsum",
            constraint=models.UniqueConstraint(
                fields=("kind", "grain", "starts_at", "tenant", "name"), name="visit_sum_unique", nulls_distinct=False
            ),
        ),
    ]

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """An event of a deleted tenant stays: the foreign key is no longer enforced."""

    dependencies = [
        ("external_apis", "0005_provider_description"),
    ]

    operations = [
        migrations.AlterField(
            model_name="auditevent",
            name="tenant",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="external_apis.tenant",
            ),
        ),
    ]

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """Who looks after what a link makes, and until when a mail is somebody's to send."""

    dependencies = [
        ("connections", "0005_indexes_of_pages"),
        ("external_apis", "0006_audit_outlives_tenants"),
    ]

    operations = [
        migrations.AddField(
            model_name="connectlink",
            name="owner",
            field=models.ForeignKey(
                blank=True,
                help_text="Who looks after the connection that it makes.",
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="external_apis.account",
            ),
        ),
        migrations.AddField(
            model_name="grantevent",
            name="mail_claimed_until",
            field=models.DateTimeField(blank=True, help_text="Until then somebody is sending it.", null=True),
        ),
    ]

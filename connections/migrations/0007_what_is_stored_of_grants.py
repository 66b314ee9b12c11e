from django.db import migrations, models


class Migration(migrations.Migration):
    """Which turn's answer is stored, so that none is stored twice; and since when renewals fail."""

    dependencies = [("connections", "0006_owners_of_links_and_claims_of_mails")]

    operations = [
        migrations.AddField(
            model_name="grant",
            name="stored_fence",
            field=models.BigIntegerField(
                db_default=0, default=0, help_text="An answer of a turn with no higher number has nothing new."
            ),
        ),
        migrations.AddField(
            model_name="grant",
            name="failing_since",
            field=models.DateTimeField(blank=True, help_text="The first of the failures in a row.", null=True),
        ),
    ]

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("external_apis", "0002_data_keys")]

    operations = [
        migrations.AddField("datakey", "kept_at", models.DateTimeField(blank=True, editable=False, null=True)),
    ]

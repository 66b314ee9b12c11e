from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("backoffice", "0001_plans_and_tokens"),
    ]

    operations = []

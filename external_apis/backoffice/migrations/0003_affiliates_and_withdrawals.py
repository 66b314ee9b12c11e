from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("backoffice", "0002_ai_models_and_usage"),
    ]

    operations = []

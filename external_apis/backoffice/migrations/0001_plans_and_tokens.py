from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("external_apis", "0008_one_index_of_outbox_keys"),
    ]

    operations = []

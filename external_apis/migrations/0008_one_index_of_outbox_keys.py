from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('external_apis', '0007_outbox'),
    ]

    operations = [
        # Django's second index of a text key is for LIKE, which nobody asks of ids: each event would write it.
        migrations.RunSQL(
            'DROP INDEX IF EXISTS "external_apis_outboxevent_id_bc929487_like"',
            'CREATE INDEX "external_apis_outboxevent_id_bc929487_like" '
            'ON external_apis_outboxevent (id varchar_pattern_ops)',
        ),
    ]

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0012_workflow_runs'),
    ]

    operations = [
        # Django's second index of a text key is for LIKE, which nobody asks of ids: each webhook would write it.
        migrations.RunSQL(
            'DROP INDEX "connections_webhookevent_id_fa5c8fdd_like"',
            'CREATE INDEX "connections_webhookevent_id_fa5c8fdd_like" '
            'ON connections_webhookevent (id varchar_pattern_ops)',
        ),
    ]

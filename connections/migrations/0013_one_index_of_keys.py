from django.db import migrations

# Django's second index of a text key is for LIKE, which nobody asks of ids: each webhook, delivery and step would write
# it. It is made at the end of the migration that makes its table, so that it can only be dropped by a later one.
_INDEXES = {
    'connections_webhookevent_id_fa5c8fdd_like': 'connections_webhookevent',
    'connections_webhookdelivery_id_9069945b_like': 'connections_webhookdelivery',
    'connections_deliveryattempt_id_4be0ee19_like': 'connections_deliveryattempt',
    'connections_workflowrun_id_ae65f150_like': 'connections_workflowrun',
    'connections_workflowstep_id_1b6292c7_like': 'connections_workflowstep',
}


class Migration(migrations.Migration):

    dependencies = [
        ('connections', '0012_workflow_runs'),
    ]

    operations = [
        migrations.RunSQL(
            f'DROP INDEX IF EXISTS "{index}"',
            f'CREATE INDEX "{index}" ON {table} (id varchar_pattern_ops)',
        )
        for index, table in _INDEXES.items()
    ]

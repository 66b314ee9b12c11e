from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('external_apis', '0004_keys_and_audit'),
    ]

    operations = [
        migrations.AddField(
            model_name='externalapi',
            name='description',
            field=models.TextField(blank=True, db_default='', default=''),
        ),
        migrations.AddField(
            model_name='externalapi',
            name='metadata',
            field=models.JSONField(blank=True, db_default=models.Value({}, output_field=models.JSONField()), default=dict, help_text='Whatever else others want to note about it; nothing here reads it.'),
        ),
        migrations.AddField(
            model_name='historicalexternalapi',
            name='description',
            field=models.TextField(blank=True, db_default='', default=''),
        ),
        migrations.AddField(
            model_name='historicalexternalapi',
            name='metadata',
            field=models.JSONField(blank=True, db_default=models.Value({}, output_field=models.JSONField()), default=dict, help_text='Whatever else others want to note about it; nothing here reads it.'),
        ),
    ]

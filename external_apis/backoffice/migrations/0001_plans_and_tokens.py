import functools

import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import external_apis.ids

# What a new installation begins with; they are the operators' to change, and no later version brings one back.
_PLANS = (
    ('free', 'Free', 10_000, 0),
    ('starter', 'Starter', 100_000, 900),
    ('professional', 'Professional', 1_000_000, 2_900),
    ('enterprise', 'Enterprise', 10_000_000, 9_900),
)


def make_plans(apps, schema_editor):
    plans = apps.get_model('backoffice', 'Plan').objects.using(schema_editor.connection.alias)
    for slug, name, tokens, price in _PLANS:
        plans.create(id=external_apis.ids.new_id('plan'), slug=slug, name=name, tokens=tokens, price_minor=price)


class Migration(migrations.Migration):
    dependencies = [
        ("external_apis", "0009_accounts_of_all_users"),
    ]

    operations = [
        migrations.CreateModel(
            name='Plan',
            fields=[
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('updated_at', models.DateTimeField(auto_now=True)),
                ('id', models.CharField(default=functools.partial(external_apis.ids.new_id, *('plan',), **{}), editable=False, max_length=48, primary_key=True, serialize=False)),
                ('slug', models.SlugField(unique=True)),
                ('name', models.CharField(max_length=200)),
                ('tokens', models.PositiveBigIntegerField(default=0, verbose_name='token allowance')),
                ('price_minor', models.PositiveBigIntegerField(default=0, help_text='In cents.', verbose_name='price a month')),
                ('currency', models.CharField(default='USD', max_length=3, validators=[django.core.validators.RegexValidator('\\A[A-Z]{3}\\Z', 'Three capital letters, as in ISO 4217.')])),
                ('is_active', models.BooleanField(db_default=True, default=True)),
            ],
            options={
                'ordering': ('price_minor', 'slug'),
                'constraints': [models.CheckConstraint(condition=models.Q(('tokens__lte', 9007199254740991)), name='plan_tokens_exact'), models.CheckConstraint(condition=models.Q(('price_minor__lte', 9007199254740991)), name='plan_price_exact')],
            },
        ),
        migrations.CreateModel(
            name='PlanPeriod',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('plan', models.CharField(max_length=50)),
                ('price_minor', models.PositiveBigIntegerField()),
                ('currency', models.CharField(max_length=3)),
                ('started_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(blank=True, null=True)),
                ('account', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='external_apis.account')),
                ('tenant', models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='external_apis.tenant')),
            ],
            options={
                'indexes': [models.Index(fields=['tenant', 'started_at'], name='plan_period_by_tenant'), models.Index(fields=['started_at'], name='plan_period_by_start')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('ended_at', None)), fields=('account',), name='plan_period_one_open')],
            },
        ),
        migrations.CreateModel(
            name='TokenChange',
            fields=[
                ('id', models.CharField(default=functools.partial(external_apis.ids.new_id, *('tok',), **{}), editable=False, max_length=48, primary_key=True, serialize=False)),
                ('operation', models.CharField(choices=[('set', 'Set'), ('add', 'Add'), ('subtract', 'Subtract'), ('plan', 'allowance of a plan')], max_length=8)),
                ('before', models.BigIntegerField()),
                ('after', models.BigIntegerField()),
                ('delta', models.BigIntegerField()),
                ('actor', models.CharField(max_length=200)),
                ('request_id', models.CharField(blank=True, max_length=64)),
                ('at', models.DateTimeField(default=django.utils.timezone.now)),
                ('account', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='token_changes', to='external_apis.account')),
                ('tenant', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='external_apis.tenant')),
            ],
            options={
                'ordering': ('-at', '-id'),
                'indexes': [models.Index(fields=['account', '-at'], name='token_change_by_account')],
            },
        ),
        migrations.CreateModel(
            name='UserSession',
            fields=[
                ('id', models.CharField(default=functools.partial(external_apis.ids.new_id, *('ses',), **{}), editable=False, max_length=48, primary_key=True, serialize=False)),
                ('session_key', models.CharField(max_length=100, unique=True)),
                ('user_agent', models.CharField(blank=True, max_length=200)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('last_seen_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('expires_at', models.DateTimeField(db_index=True)),
                ('account', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='sessions', to='external_apis.account')),
                ('tenant', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='external_apis.tenant')),
            ],
            options={
                'verbose_name': 'session',
                'ordering': ('-id',),
                'indexes': [models.Index(fields=['account', '-id'], name='user_session_by_account')],
            },
        ),
        migrations.RunPython(make_plans, migrations.RunPython.noop),
    ]

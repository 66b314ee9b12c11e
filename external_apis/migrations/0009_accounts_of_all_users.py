import logging

from django.contrib.auth import get_user_model
from django.contrib.postgres.operations import AddConstraintNotValid, AddIndexConcurrently, ValidateConstraint
from django.db import DatabaseError, migrations, models

from external_apis.ids import new_id

# Each step stands alone and may be repeated: nothing is locked for as long as all of it takes.
_BATCH = 1000
_INDEX = 'external_apis_user_search'


def open_accounts(apps, schema_editor):
    """Give an account to each user who has none, in batches; it is as old as its user."""
    Account, User = apps.get_model('external_apis', 'Account'), get_user_model()
    has_date = any(field.name == 'date_joined' for field in User._meta.concrete_fields)
    rows = Account.objects.using(schema_editor.connection.alias)
    # Of the user's own columns only those that are asked for: later migrations may add others.
    users = User._base_manager.using(schema_editor.connection.alias).order_by('pk')
    users = users.values_list('pk', *(['date_joined'] if has_date else []))
    batch = list(users[:_BATCH])
    while batch:
        have = set(rows.filter(user_id__in=[key for key, *_ in batch]).values_list('user_id', flat=True))
        missing = [
            Account(id=new_id('user'), user_id=key, **({'created_at': joined[0]} if joined else {}))
            for key, *joined in batch
            if key not in have
        ]
        rows.bulk_create(missing, ignore_conflicts=True)
        batch = list(users.filter(pk__gt=batch[-1][0])[:_BATCH])


def mend_balances(apps, schema_editor):
    """Nobody has less than no tokens; so far a page took any number."""
    accounts = apps.get_model('external_apis', 'Account').objects.using(schema_editor.connection.alias)
    accounts.filter(tokens__lt=0).update(tokens=0)


def index_names(apps, schema_editor):
    """Index a user's names and address by their trigrams, as `backoffice.users` looks for them.

    A role that may not add the extension, or a server without it, gets no index: the search is slower there.
    """
    connection, user = schema_editor.connection, get_user_model()
    table = user._meta.db_table
    fields = {field.name: field.column for field in user._meta.concrete_fields}
    names = dict.fromkeys((user.USERNAME_FIELD, 'first_name', 'last_name', user.get_email_field_name()))
    columns = [fields[name] for name in names if name in fields]
    quote = connection.ops.quote_name
    text = " || ' ' || ".join(f"COALESCE({quote(column)}, '')" for column in columns)
    with connection.cursor() as cursor:
        try:
            cursor.execute('CREATE EXTENSION IF NOT EXISTS pg_trgm')
            # One that an interrupted run left behind is invalid.
            cursor.execute(f'DROP INDEX CONCURRENTLY IF EXISTS {_INDEX}')
            cursor.execute(
                f"CREATE INDEX CONCURRENTLY {_INDEX} ON {quote(table)} USING gin (UPPER(' ' || {text}) gin_trgm_ops)"
            )
            # Whether this index or the order of the list is the quicker way hangs on how rare a text is.
            cursor.execute(f'ALTER INDEX {_INDEX} ALTER COLUMN 1 SET STATISTICS 1000')
        except DatabaseError as error:
            logging.getLogger(__name__).warning('Users are searched without an index: %s', error)


def drop_index(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(f'DROP INDEX CONCURRENTLY IF EXISTS {_INDEX}')


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ('external_apis', '0008_one_index_of_outbox_keys'),
    ]

    operations = [
        migrations.RunPython(open_accounts, migrations.RunPython.noop),
        AddIndexConcurrently(
            model_name='account',
            index=models.Index(fields=['tenant', '-id'], name='account_by_tenant'),
        ),
        AddIndexConcurrently(
            model_name='account',
            index=models.Index(fields=['plan', '-id'], name='account_by_plan'),
        ),
        migrations.RunPython(mend_balances, migrations.RunPython.noop),
        AddConstraintNotValid(
            model_name='account',
            constraint=models.CheckConstraint(
                condition=models.Q(('tokens__gte', 0)), name='account_tokens_not_negative'
            ),
        ),
        ValidateConstraint(model_name='account', name='account_tokens_not_negative'),
        migrations.RunPython(index_names, drop_index),
    ]

"""Gives a grant to every connection that was made before there were any, a thousand at a time."""

from django.db import migrations

_BATCH = 1000
# Times are estimates that the first renewal corrects; a sweep looks at each row when it is due.
_INSERT = """
WITH page AS (
    SELECT c.id, c.tenant_id, c.status, k.expires_at, a.api_config->>'auth_type' AS auth_type
    FROM connections_externalapiconnection c
    JOIN connections_externalapicredential k ON k.connection_id = c.id
    JOIN external_apis_externalapi a ON a.id = c.external_api_id
    WHERE a.api_config->>'auth_type' IN ('oauth2', 'client_credentials') AND c.id > %s
    ORDER BY c.id LIMIT %s
), made AS (
    INSERT INTO connections_grant
        (connection_id, tenant_id, state, due_at, fence, lease_holder, failures, rotates, requested_scopes, incident)
    SELECT id, tenant_id,
        CASE WHEN status IN ('expired', 'revoked') THEN 'ended' ELSE 'good' END,
        CASE WHEN status IN ('expired', 'revoked') THEN NULL ELSE expires_at - interval '5 minutes' END,
        0, '', 0, CASE WHEN auth_type = 'oauth2' THEN NULL ELSE false END, '[]', ''
    FROM page
    ON CONFLICT (connection_id) DO NOTHING
)
SELECT id FROM page ORDER BY id DESC LIMIT 1
"""


def make_grants(apps, schema_editor):
    last = ("",)
    with schema_editor.connection.cursor() as cursor:
        while last:
            cursor.execute(_INSERT, [*last, _BATCH])
            last = cursor.fetchone()


class Migration(migrations.Migration):
    dependencies = [("connections", "0003_grants_and_flows"), ("external_apis", "0004_keys_and_audit")]
    operations = [migrations.RunPython(make_grants, migrations.RunPython.noop)]

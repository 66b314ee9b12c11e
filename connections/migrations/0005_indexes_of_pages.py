from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    """Indexes that hold all that a list of all providers' connections is chosen by; made while the table is in use."""

    atomic = False

    dependencies = [
        ("connections", "0004_grants_of_existing_connections"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="externalapiconnection",
            index=models.Index(
                fields=["-id"], include=["external_api"], condition=Q(deleted_at__isnull=True), name="conn_by_id"
            ),
        ),
        AddIndexConcurrently(
            model_name="externalapiconnection",
            index=models.Index(
                fields=["tenant", "-id"],
                include=["external_api"],
                condition=Q(deleted_at__isnull=True),
                name="conn_of_tenant_by_id",
            ),
        ),
        RemoveIndexConcurrently(model_name="externalapiconnection", name="conn_by_tenant"),
    ]

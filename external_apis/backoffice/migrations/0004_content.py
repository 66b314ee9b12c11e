import functools

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import external_apis.ids


class Migration(migrations.Migration):
    dependencies = [
        ("backoffice", "0003_affiliates_and_withdrawals"),
        ("external_apis", "0008_one_index_of_outbox_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="FeatureRequest",
            fields=[
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("updated_at", models.DateTimeField(auto_now=True)),
                (
                    "id",
                    models.CharField(
                        default=functools.partial(external_apis.ids.new_id, *("fr",), **{}),
                        editable=False,
                        max_length=48,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("title", models.CharField(max_length=200)),
                ("description", models.TextField(blank=True, default="")),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("open", "Open"),
                            ("planned", "Planned"),
                            ("in_progress", "In Progress"),
                            ("done", "Done"),
                            ("declined", "Declined"),
                        ],
                        default="open",
                        max_length=16,
                    ),
                ),
                ("votes", models.PositiveIntegerField(default=0, editable=False)),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="feature_requests",
                        to="external_apis.tenant",
                    ),
                ),
            ],
            options={
                "ordering": ("-votes", "-id"),
            },
        ),
        migrations.CreateModel(
            name="FeatureVote",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("voter", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "feature_request",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="cast_votes",
                        to="backoffice.featurerequest",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="external_apis.tenant",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Blog",
            fields=[
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("updated_at", models.DateTimeField(auto_now=True)),
                ("created_by", models.CharField(blank=True, editable=False, max_length=200, null=True)),
                ("updated_by", models.CharField(blank=True, editable=False, max_length=200, null=True)),
                (
                    "id",
                    models.CharField(
                        default=functools.partial(external_apis.ids.new_id, *("blog",), **{}),
                        editable=False,
                        max_length=48,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("slug", models.SlugField(max_length=100)),
                ("title", models.CharField(max_length=200)),
                ("excerpt", models.CharField(blank=True, default="", max_length=500)),
                ("body", models.TextField(blank=True, default="")),
                ("author", models.CharField(blank=True, default="", max_length=100)),
                (
                    "status",
                    models.CharField(
                        choices=[("draft", "Draft"), ("published", "Published")], default="draft", max_length=16
                    ),
                ),
                ("published_at", models.DateTimeField(blank=True, null=True)),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="blogs",
                        to="external_apis.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name": "blog post",
                "ordering": ("-id",),
                "indexes": [
                    models.Index(fields=["tenant", "-id"], name="blog_of_tenant"),
                    models.Index(
                        condition=models.Q(("status", "published")),
                        fields=["tenant", "-published_at"],
                        name="blog_on_page",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "slug"), name="blog_slug_unique", nulls_distinct=False)
                ],
            },
        ),
        migrations.CreateModel(
            name="ContactMessage",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=functools.partial(external_apis.ids.new_id, *("msg",), **{}),
                        editable=False,
                        max_length=48,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("name", models.CharField(max_length=100)),
                ("email", models.CharField(max_length=254)),
                ("subject", models.CharField(blank=True, default="", max_length=200)),
                ("message", models.TextField()),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="contact_messages",
                        to="external_apis.tenant",
                    ),
                ),
            ],
            options={
                "ordering": ("-id",),
                "indexes": [models.Index(fields=["tenant", "-id"], name="contact_of_tenant")],
            },
        ),
        migrations.AddIndex(
            model_name="featurerequest",
            index=models.Index(fields=["-votes", "-id"], name="feature_by_votes"),
        ),
        migrations.AddIndex(
            model_name="featurerequest",
            index=models.Index(fields=["tenant", "-votes", "-id"], name="feature_of_tenant"),
        ),
        migrations.AddConstraint(
            model_name="featurevote",
            constraint=models.UniqueConstraint(fields=("feature_request", "voter"), name="feature_vote_once"),
        ),
    ]

"""The encrypted field, on the real tables."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.core import serializers
from django.core.exceptions import FieldError
from django.db import connection
from django.test.utils import CaptureQueriesContext

from external_apis.crypto import Keyring, Sealed, Secrets
from external_apis.errors import NotSealed, UnknownKey, Unreadable
from external_apis.fields import SecretsField
from external_apis.models import DataKey, ExternalApi

pytestmark = pytest.mark.django_db


def make(slug: str = "one", **secrets: str) -> ExternalApi:
    return ExternalApi.objects.create(
        name=slug, slug=slug, provider=slug, secrets=secrets or {"api_key.key": "swordfish"}
    )


def stored(api: ExternalApi) -> bytes:
    with connection.cursor() as cursor:
        cursor.execute("SELECT secrets FROM external_apis_externalapi WHERE id = %s", [api.pk])
        return bytes(cursor.fetchone()[0])


def test_secrets_are_sealed_in_the_table_and_open_again() -> None:
    api = make()
    assert b"swordfish" not in stored(api)
    assert ExternalApi.objects.get().secrets["api_key.key"] == "swordfish"


def test_reading_rows_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    make()
    opened: list[str] = []

    def count(_field: SecretsField, instance: ExternalApi, _sealed: Sealed) -> Secrets:
        opened.append(instance.pk)
        return Secrets()

    monkeypatch.setattr(SecretsField, "open", count)
    api = ExternalApi.objects.get()
    assert api.secret_facts()["api_key.key"]["keyVersion"] == DataKey.objects.get().pk
    assert opened == []
    _ = api.secrets
    assert opened == [api.pk]


def test_a_deferred_secret_is_loaded_when_it_is_read() -> None:
    make()
    api = ExternalApi.objects.defer("secrets").get()
    with CaptureQueriesContext(connection) as queries:
        assert api.secrets["api_key.key"] == "swordfish"
    assert len(queries) == 1


def test_saving_a_row_whose_secrets_did_not_change_keeps_the_ciphertext() -> None:
    before = stored(make())
    api = ExternalApi.objects.get()
    _ = api.secrets
    api.name = "other"
    api.save()
    assert stored(api) == before


def test_a_ciphertext_moved_to_another_row_does_not_open() -> None:
    first, second = make("one"), make("two")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE external_apis_externalapi SET secrets = %s WHERE id = %s", [stored(first), second.pk])
    with pytest.raises(Unreadable):
        _ = ExternalApi.objects.get(pk=second.pk).secrets


def test_a_truncated_ciphertext_and_an_unknown_key_are_told_apart() -> None:
    api = make()
    for damaged, error in (
        (stored(api)[:20], Unreadable),
        (b"", Unreadable),
        (bytes(Keyring({"k0": bytes(32)}).seal(b"{}", "x")), UnknownKey),
    ):
        with connection.cursor() as cursor:
            cursor.execute("UPDATE external_apis_externalapi SET secrets = %s", [damaged])
        row = ExternalApi.objects.get()
        with pytest.raises(error):
            _ = row.secrets
        with pytest.raises(error):
            row.secret_facts()


@pytest.mark.django_db(transaction=True)
def test_updates_with_plain_secrets_are_refused() -> None:
    api = make()
    before = stored(api)
    with pytest.raises(NotSealed):
        ExternalApi.objects.update(secrets={"api_key.key": "plain"})
    with pytest.raises(NotSealed):
        ExternalApi.objects.update(secrets=Secrets({"api_key.key": "plain"}))
    api.secrets = {"api_key.key": "plain"}
    with pytest.raises(NotSealed):
        ExternalApi.objects.bulk_update([api], ["secrets"])
    assert stored(api) == before


def test_bulk_create_seals() -> None:
    ExternalApi.objects.bulk_create([ExternalApi(name="a", slug="a", provider="a", secrets={"x": "swordfish"})])
    assert b"swordfish" not in stored(ExternalApi.objects.get())
    assert ExternalApi.objects.get().secrets["x"] == "swordfish"


def test_lookups_are_refused() -> None:
    with pytest.raises(FieldError):
        ExternalApi.objects.filter(secrets="x").exists()


def test_dumps_hold_the_sealed_form() -> None:
    assert "swordfish" not in serializers.serialize("json", [make()])


def test_history_keeps_fingerprints_and_no_secret_nor_hint() -> None:
    api = make(**{"oauth2.client_secret": "a-long-secret-that-ends-in-wxyz"})
    api.secrets = {"oauth2.client_secret": "another-long-secret-ending-in-stuv"}
    api.save()
    first, second = api.history.order_by("history_date")
    assert first.secret_fingerprints != second.secret_fingerprints
    text = repr([vars(first), vars(second)])
    for secret in ("wxyz", "stuv", "long-secret"):
        assert secret not in text
    assert not hasattr(first, "secrets")


def test_no_history_table_holds_a_secret_column() -> None:
    for model in apps.get_models():
        if model.__name__.startswith("Historical"):
            names = {field.name for field in model._meta.fields}
            assert not any(isinstance(field, SecretsField) for field in model._meta.fields), model
            assert "secret_hints" not in names, model


def test_an_old_version_seen_as_an_instance_has_the_secrets_of_today() -> None:
    api = make()
    api.name = "renamed"
    api.save()
    old = api.history.earliest().instance
    assert (old.name, old.secrets["api_key.key"]) == ("one", "swordfish")


def test_hints_are_given_for_long_secrets_only() -> None:
    api = make(long="0123456789abcdefghij", short="password1234")
    assert api.secret_hints == {"long": "ghij"}


def test_fingerprints_follow_an_update_of_named_fields() -> None:
    api = make()
    before = api.secret_fingerprints
    api.secrets = {"api_key.key": "changed"}
    api.save(update_fields=["secrets"])
    assert ExternalApi.objects.get().secret_fingerprints != before


def test_a_row_refreshed_from_the_database_forgets_what_it_opened() -> None:
    api = make()
    assert api.secrets["api_key.key"] == "swordfish"
    other = ExternalApi.objects.get()
    other.secrets = {"api_key.key": "changed"}
    other.save()
    api.refresh_from_db()
    assert api.secrets["api_key.key"] == "changed"


def test_the_stored_form_is_read_without_opening() -> None:
    assert Sealed(stored(make())).key_id == DataKey.objects.get().pk

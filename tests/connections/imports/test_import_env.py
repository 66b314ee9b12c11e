"""``manage.py import_env``: from names of variables to providers and connections, again and again."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, connection, transaction

from connections.imports import dotenv, runs
from connections.imports.environment import importing
from connections.imports.environment.left import LEFT
from connections.imports.environment.variables import sort_out
from connections.models import EnvironmentVariable, ExternalApiConnection, ImportedRow, ImportKind, ImportRun
from connections.services import delete_connection, get_connection, get_env_secret, update_connection
from external_apis.catalogue import presets
from external_apis.models import AuditEvent, ExternalApi
from external_apis.providers import delete_external_api, find_by_id_or_slug, get_api_config, update_external_api
from tests.connections.test_audit_everywhere import _refusing_events as refusing_events
from tests.factories import make_connection, make_partner, make_provider, make_tenant

OTHER_SID = f"AC{'2' * 32}"
STRIPE = "sk_live_51HswordfishAbCd"
ENV = f"""
# Payments
export STRIPE_SECRET_KEY={STRIPE}
TWILIO_ACCOUNT_SID="AC{"0" * 32}"
TWILIO_AUTH_TOKEN='{"f" * 31}1'
TWILIO_PHONE_NUMBER=+15005550006
SENDGRID_API_KEY=SG.swordfish-of-the-mails
SENDGRID_FROM_EMAIL=shop@example.com
SLACK_BOT_TOKEN=xoxb-1234567890-swordfish
FACEBOOK_APP_ID=123456789012345
FACEBOOK_APP_SECRET={"a" * 32}
TWITTER_API_KEY=consumer-key-of-tests-00
TWITTER_API_SECRET=consumer-secret-of-tests
ACME_API_KEY=nobody-knows-it
DATABASE_URL=postgresql://user:swordfish@db/app
ENCRYPTION_KEYS=k1:swordfish
GITHUB_TOKEN=changeme
MAILGUN_API_KEY=
this line is none
"""
pytestmark = pytest.mark.django_db


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    path.write_text(ENV)
    return path


def run(*arguments: Any) -> str:
    out = io.StringIO()
    call_command("import_env", *map(str, arguments), stdout=out, stderr=out)
    return out.getvalue()


def facts(*arguments: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("--json", *arguments))
    return found


def outcomes(found: dict[str, Any]) -> dict[str, str]:
    return {step["slug"]: step["outcome"] for step in found["plan"]}


def actions(found: dict[str, Any]) -> dict[str, str]:
    return {one["variable"]: one["action"] for step in found["plan"] for one in step["variables"]}


def test_a_plan_shows_what_would_happen_and_changes_nothing(file: Path) -> None:
    text = run("--file", file)
    assert "Nothing was changed. Import with --apply." in text
    assert "STRIPE_SECRET_KEY …AbCd -> access_token (new)" in text
    assert "ACME_API_KEY: looks like a credential" in text
    assert "line 19: is not NAME=VALUE" in text
    assert "swordfish" not in text
    assert "123456789012345" not in text
    for model in (ExternalApi, ExternalApiConnection, ImportRun, EnvironmentVariable, AuditEvent):
        assert not model._default_manager.exists()


def test_everything_is_applied_and_can_be_used(file: Path) -> None:
    found = facts("--file", file, "--apply")
    assert found["counts"] == {"created": 6}
    assert found["unknown"] == ["ACME_API_KEY"]
    assert set(found["skipped"]) == {"DATABASE_URL", "ENCRYPTION_KEYS", "GITHUB_TOKEN", "MAILGUN_API_KEY"}
    assert get_connection("stripe").credentials["access_token"] == STRIPE
    twilio = get_connection("twilio")
    assert dict(twilio.credentials) == {"username": f"AC{'0' * 32}", "password": f"{'f' * 31}1"}
    assert twilio.provider_data == {"account_sid": f"AC{'0' * 32}", "phone_number": "+15005550006"}
    assert get_connection("sendgrid").provider_data == {"from_email": "shop@example.com"}
    assert get_connection("slack").credentials["access_token"] == "xoxb-1234567890-swordfish"
    facebook: Any = get_api_config("facebook").api_config
    assert facebook.oauth2.client_id.get_secret_value() == "123456789012345"
    assert facebook.oauth2.client_secret.get_secret_value() == "a" * 32
    twitter: Any = get_api_config("twitter").api_config
    assert twitter.oauth1.consumer_key.get_secret_value() == "consumer-key-of-tests-00"
    assert twitter.oauth1.consumer_secret.get_secret_value() == "consumer-secret-of-tests"
    assert ExternalApiConnection.objects.count() == 4
    assert AuditEvent.objects.filter(action="connection.created").count() == 4
    assert not AuditEvent.objects.filter(changes__icontains="swordfish").exists()


def test_without_its_events_nothing_is_stored(file: Path) -> None:
    with refusing_events(), pytest.raises(DatabaseError), transaction.atomic():
        run("--file", file, "--apply")
    assert not ExternalApi.objects.exists()
    assert not ImportRun.objects.exists()


def test_a_second_time_changes_nothing(file: Path) -> None:
    run("--file", file, "--apply")
    before = AuditEvent.objects.count()
    found = facts("--file", file, "--apply")
    assert found["counts"] == {"recognised": 6}
    assert found["run"] is None
    assert AuditEvent.objects.count() == before
    assert ImportRun.objects.count() == 1


def test_a_value_that_changed_in_the_environment_is_shown_and_taken_when_applied(file: Path) -> None:
    run("--file", file, "--apply")
    file.write_text(ENV.replace(STRIPE, "sk_live_51HanotherOneWxYz"))
    text = run("--file", file)
    assert "STRIPE_SECRET_KEY …WxYz -> access_token (changed, stored is …AbCd)" in text
    assert get_connection("stripe").credentials["access_token"] == STRIPE
    found = facts("--file", file, "--apply")
    assert outcomes(found)["stripe"] == "updated"
    assert get_connection("stripe").credentials["access_token"] == "sk_live_51HanotherOneWxYz"
    assert facts("--file", file, "--apply")["counts"] == {"recognised": 6}


def test_a_value_that_was_changed_here_stays_unless_overwritten(file: Path) -> None:
    run("--file", file, "--apply")
    update_connection(
        ExternalApiConnection.objects.get(external_api__slug="stripe"), {"credentials": {"access_token": "newer"}}
    )
    api = find_by_id_or_slug("facebook")
    update_external_api(api, {"api_config": {"oauth2": {"client_secret": "newer too"}}})
    found = facts("--file", file, "--apply")
    assert {name for name, action in actions(found).items() if action == "kept"} == {
        "STRIPE_SECRET_KEY",
        "FACEBOOK_APP_SECRET",
    }
    assert get_connection("stripe").credentials["access_token"] == "newer"
    file.write_text(ENV.replace(STRIPE, "sk_live_changed_there_as_well"))
    assert actions(facts("--file", file, "--apply"))["STRIPE_SECRET_KEY"] == "kept"
    assert outcomes(facts("--file", file, "--apply", "--overwrite"))["facebook"] == "updated"
    assert get_connection("stripe").credentials["access_token"] == "sk_live_changed_there_as_well"


def test_what_somebody_connected_by_hand_is_recognised_or_kept(tmp_path: Path) -> None:
    api = make_provider(slug="stripe")
    make_connection(api, slug="shop", credentials={"access_token": "by hand"})
    file = tmp_path / ".env"
    file.write_text("STRIPE_SECRET_KEY=another")
    assert actions(facts("--file", file, "--apply")) == {"STRIPE_SECRET_KEY": "kept"}
    assert not EnvironmentVariable.objects.exists()
    file.write_text("STRIPE_SECRET_KEY=by hand")
    assert actions(facts("--file", file, "--apply")) == {"STRIPE_SECRET_KEY": "same"}
    assert ExternalApi.objects.get() == api
    assert EnvironmentVariable.objects.get().connection == api.connections.get()


def test_a_tenant_gets_connections_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(f"STRIPE_SECRET_KEY={STRIPE}\nFACEBOOK_APP_ID=1\nFACEBOOK_APP_SECRET=2")
    everybodys = make_provider(slug="stripe")
    make_provider(slug="facebook", api_config={**presets()["facebook"].api_config})
    tenant = make_tenant("acme")
    run("--file", file, "--apply", "--tenant", "acme")
    connection = ExternalApiConnection.objects.get()
    assert (connection.tenant, connection.external_api) == (tenant, everybodys)
    assert ExternalApi.objects.get(tenant=tenant).slug == "facebook"
    assert facts("--file", file, "--apply", "--tenant", tenant.pk)["counts"] == {"recognised": 2}


@pytest.mark.parametrize("kind", ["sandbox", "partner"])
def test_a_provider_for_the_sandbox_or_of_a_partner_is_not_the_one_that_is_meant(tmp_path: Path, kind: str) -> None:
    other = make_provider(slug="stripe", **({"is_sandbox": True} if kind == "sandbox" else {"partner": make_partner()}))
    file = tmp_path / ".env"
    file.write_text(f"STRIPE_SECRET_KEY={STRIPE}")
    assert facts("--file", file, "--apply")["plan"][0]["created"] == ["provider", "connection"]
    assert ExternalApiConnection.objects.get().external_api_id != other.pk


def test_what_cannot_be_connected_is_told_of_and_the_rest_goes_on(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(
        f'TWILIO_ACCOUNT_SID=AC1\nSTRIPE_SECRET_KEY={STRIPE}\nSENDGRID_API_KEY="a\\nb"\nAWS_ACCESS_KEY_ID=1\n'
        "AWS_SECRET_ACCESS_KEY=2\nDD_API_KEY=1\n"
    )
    with pytest.raises(CommandError) as raised:
        run("--file", file, "--apply")
    assert raised.value.returncode == 1
    found = {
        step.slug: step
        for step in importing.import_variables(sort_out(dotenv.read(file).values), is_applied=False).steps
    }
    assert {slug: step.outcome for slug, step in found.items()} == {
        "amazon-s3": "skipped",
        "datadog": "skipped",
        "sendgrid": "failed",
        "stripe": "recognised",
        "twilio": "skipped",
    }
    assert "AWS_REGION is missing" in found["amazon-s3"].reason
    assert "TWILIO_AUTH_TOKEN is missing" in found["twilio"].reason
    assert "DD_APP_KEY is missing" in found["datadog"].reason
    assert set(ExternalApi.objects.values_list("slug", flat=True)) == {"stripe"}


def test_two_names_for_one_place(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(f"STRIPE_API_KEY={STRIPE}\nSTRIPE_SECRET_KEY={STRIPE}\nGH_TOKEN=two\nGITHUB_TOKEN=one")
    found = facts("--file", file, "--apply")
    assert actions(found) == {
        "STRIPE_SECRET_KEY": "new",
        "STRIPE_API_KEY": "same",
        "GITHUB_TOKEN": "new",
        "GH_TOKEN": "unused",
    }
    assert set(EnvironmentVariable.objects.values_list("name", flat=True)) == {
        "STRIPE_SECRET_KEY",
        "STRIPE_API_KEY",
        "GITHUB_TOKEN",
    }
    assert facts("--file", file, "--apply")["run"] is None


@pytest.mark.parametrize(
    ("names", "slug", "places"),
    [
        ("MAILGUN_API_KEY", "mailgun", "password"),
        ("GOOGLE_CLIENT_ID GOOGLE_CLIENT_SECRET", "google-oauth2", "oauth2.client_id oauth2.client_secret"),
        ("GITHUB_APP_CLIENT_ID GITHUB_APP_CLIENT_SECRET", "github-app", "oauth2.client_id oauth2.client_secret"),
        ("GITHUB_CLIENT_ID GITHUB_CLIENT_SECRET", "github-oauth2", "oauth2.client_id oauth2.client_secret"),
        ("TUMBLR_CONSUMER_KEY TUMBLR_CONSUMER_SECRET", "tumblr", "oauth1.consumer_key oauth1.consumer_secret"),
        ("TRELLO_API_KEY TRELLO_API_SECRET", "trello", "oauth1.consumer_key oauth1.consumer_secret"),
        ("TWITTER_API_KEY TWITTER_API_SECRET_KEY", "twitter", "oauth1.consumer_key oauth1.consumer_secret"),
        ("TWITTER_ACCESS_TOKEN TWITTER_ACCESS_TOKEN_SECRET", "twitter", "oauth_token oauth_token_secret"),
        (
            "X_ACCESS_TOKEN X_ACCESS_TOKEN_SECRET X_API_KEY X_API_SECRET",
            "twitter",
            "oauth_token oauth_token_secret oauth1.consumer_key oauth1.consumer_secret",
        ),
        ("TWITTER_CLIENT_ID TWITTER_CLIENT_SECRET", "x", "oauth2.client_id oauth2.client_secret"),
        (
            "VIMEO_ACCESS_TOKEN VIMEO_CLIENT_ID VIMEO_CLIENT_SECRET",
            "vimeo-oauth2",
            "access_token oauth2.client_id oauth2.client_secret",
        ),
        ("INSTAGRAM_ACCESS_TOKEN", "instagram", "access_token"),
        ("CALENDLY_ACCESS_TOKEN", "calendly", "access_token"),
        ("PAYPAL_CLIENT_ID", "paypal", "client_id"),
        ("DHL_EXPRESS_PASSWORD DHL_EXPRESS_USERNAME", "dhl-express", "password username"),
        ("OPENAI_API_KEY", "openai", "access_token"),
        ("STRIPE_KEY STRIPE_SECRET", "stripe", "access_token"),
        ("CLOUDFLARE_API_KEY CLOUDFLARE_API_TOKEN", "cloudflare", "access_token"),
        ("TWILIO_ACCOUNT_SID TWILIO_AUTH_TOKEN", "twilio", "username,provider_data.account_sid password"),
        (
            "TWILIO_ACCOUNT_SID TWILIO_API_KEY TWILIO_API_SECRET",
            "twilio",
            "provider_data.account_sid username password",
        ),
        (
            "SHOPIFY_ACCESS_TOKEN SHOPIFY_API_KEY SHOPIFY_API_SECRET SHOPIFY_SHOP",
            "shopify",
            "api_key provider_data.shop",
        ),
        (
            "ZENDESK_PASSWORD ZENDESK_SUBDOMAIN ZENDESK_USERNAME",
            "zendesk",
            "password provider_data.subdomain username",
        ),
        ("SALESFORCE_ACCESS_TOKEN SALESFORCE_INSTANCE", "salesforce", "access_token provider_data.instance"),
        ("NATIONBUILDER_ACCESS_TOKEN NATIONBUILDER_SLUG", "nationbuilder", "access_token provider_data.slug"),
        ("MAILJET_API_KEY MJ_APIKEY_PRIVATE MJ_APIKEY_PUBLIC", "mailjet", "username password username"),
        ("FEDEX_API_KEY FEDEX_CLIENT_ID FEDEX_SECRET_KEY", "fedex", "client_id client_id client_secret"),
    ],
)
def test_names_are_understood_by_table_and_by_pattern(names: str, slug: str, places: str) -> None:
    (group,) = sort_out(dict.fromkeys(names.split(), "a value")).groups
    found = {one.name: ",".join(one.places) for one in group.variables}
    known = [name for name in names.split() if name in found]
    assert (group.preset.slug, [found[name] for name in known]) == (slug, places.split())


@pytest.mark.parametrize(
    "names",
    [
        "CLOUDFLARE_API_KEY",
        "CLOUDINARY_URL",
        "COINBASE_API_KEY COINBASE_API_SECRET",
        "FACEBOOK_APP_ID",
        "FACEBOOK_APP_ID FACEBOOK_CLIENT_SECRET",
        "FACEBOOK_APP_ID FB_APP_SECRET",
        "GITHUB_API_KEY",
        "GITHUB_APP_ID GITHUB_APP_PRIVATE_KEY GITHUB_CLIENT_SECRET",
        "GOOGLE_API_KEY GOOGLE_CLIENT_SECRET",
        "GRAFANA_API_KEY",
        "MAILCHIMP_API_KEY MAILCHIMP_API_SECRET",
        "SHOPIFY_API_KEY SHOPIFY_API_SECRET",
        "SLACK_APP_ID SLACK_CLIENT_SECRET",
        "SLACK_APP_ID SLACK_APP_SECRET",
        "SLACK_SIGNING_SECRET SLACK_WEBHOOK_URL",
        "STRIPE_KEY STRIPE_PUBLISHABLE_KEY",
        "TRELLO_API_KEY TRELLO_TOKEN",
        "TWITTER_ACCESS_TOKEN TWITTER_BEARER_TOKEN",
        "UPLOADCARE_PUBLIC_KEY UPLOADCARE_SECRET_KEY",
        "VIMEO_CLIENT_ID VIMEO_APP_SECRET",
        "X_ACCESS_TOKEN",
        "X_API_KEY TWITTER_API_SECRET",
        "YOUTUBE_API_KEY YOUTUBE_CLIENT_ID",
        "ZENDESK_API_TOKEN",
        "ALGOLIA_ADMIN_KEY",
    ],
)
def test_what_is_not_certain_is_named_and_left(names: str) -> None:
    found = sort_out(dict.fromkeys(names.split(), "a value"))
    assert found.groups == ()
    assert {*found.unknown, *found.skipped} == {*names.split()}
    assert not {*found.skipped} & {name for preset in presets().values() for name in preset.env} & {*LEFT}


def test_two_namings_are_never_mixed() -> None:
    found = sort_out({"TWILIO_ACCOUNT_SID": "1", "TWILIO_API_SECRET": "2", "DD_API_KEY": "3", "DATADOG_APP_KEY": "4"})
    taken = {one.name for group in found.groups for one in group.variables}
    assert (taken, {*found.skipped}) == ({"TWILIO_ACCOUNT_SID", "DD_API_KEY"}, {"TWILIO_API_SECRET", "DATADOG_APP_KEY"})
    (group,) = sort_out({"FEDEX_CLIENT_ID": "1", "FEDEX_API_KEY": "2", "FEDEX_SECRET_KEY": "3"}).groups
    assert {place: one.value for place, one in group.by_place().items()} == {"client_id": "2", "client_secret": "3"}


def test_an_address_with_a_password_is_named() -> None:
    assert sort_out({"AMQP": "amqp://user:swordfish@mq/", "PAGE": "https://example.com/"}).unknown == ("AMQP",)


def test_a_value_that_is_no_text_is_skipped() -> None:
    found = sort_out({"STRIPE_SECRET_KEY": "sk_\udcff", "OPENAI_API_KEY": "1", "\udcff_TOKEN": "1", "LC_X": "\udcff"})
    assert dict(found.skipped) == {"STRIPE_SECRET_KEY": "is not text in UTF-8"}
    assert {*sort_out({"ZENDESK_PASSWORD": "\udcff", "ZENDESK_USERNAME": ""}).skipped} == {
        "ZENDESK_PASSWORD",
        "ZENDESK_USERNAME",
    }
    assert [group.preset.slug for group in found.groups] == ["openai"]


@pytest.mark.parametrize(
    "name", ["DATABASE_URL", "REDIS_URL", "SECRET_KEY", "JWT_SECRET_FILE", "OIDC_CLIENT_SECRET", "METRICS_TOKEN"]
)
def test_this_product_s_own_variables_are_left_alone(name: str) -> None:
    found = sort_out({name: "swordfish"})
    assert found.groups == ()
    assert found.unknown == ()


def test_what_is_this_product_s_own_is_left_alone_also_where_the_catalogue_knows_the_name(settings: Any) -> None:
    settings.SECRET_VARIABLES = (*settings.SECRET_VARIABLES, "STRIPE_SECRET_KEY")
    found = sort_out({"STRIPE_SECRET_KEY": STRIPE})
    assert found.groups == ()
    assert dict(found.skipped) == {"STRIPE_SECRET_KEY": "is this product's own"}


def test_what_the_catalogue_says_of_variables_names_each_once() -> None:
    names = [name for preset in presets().values() for name in preset.env]
    assert len(names) == len(set(names)) > 150


def test_names_made_to_be_slow_are_not() -> None:
    assert sort_out({"A_" * 2_000 + "API_KEY": "x", "": "x", "_": "x", "=": "x", "A\0B_TOKEN": "x"}).groups == ()


def test_an_import_is_taken_back_but_for_what_is_in_use(file: Path) -> None:
    run_id = facts("--file", file, "--apply")["run"]
    update_connection(ExternalApiConnection.objects.get(external_api__slug="stripe"), {"note": "ours"})
    undone = facts("--undo", run_id)
    assert undone["removed"] == 8
    assert {one["reason"] for one in undone["left"]} == {"was changed since", "a connection refers to it"}
    assert list(ExternalApiConnection.objects.values_list("external_api__slug", flat=True)) == ["stripe"]
    assert ImportedRow.objects.count() == 2
    text = run("--undo", run_id)
    assert "0 removed, 2 left." in text
    assert outcomes(facts("--file", file, "--apply"))["twilio"] == "created"


def delete_stripe() -> None:
    delete_connection(ExternalApiConnection.objects.get(external_api__slug="stripe", deleted_at=None))


def delete_stripe_and_its_provider() -> None:
    delete_stripe()
    delete_external_api(find_by_id_or_slug("stripe"))


def call_stripe_another() -> None:
    row = ExternalApiConnection.objects.get(external_api__slug="stripe")
    update_connection(row, {"slug": "shop"})
    make_connection(row.external_api, slug="another", credentials={"access_token": "another"})


def put_into_development() -> None:
    for slug in ("stripe", "twilio"):
        update_external_api(find_by_id_or_slug(slug), {"environment": "development"})


@pytest.mark.parametrize(
    ("happen", "outcome"),
    [
        (delete_stripe, "created"),
        (delete_stripe_and_its_provider, "created"),
        (call_stripe_another, "recognised"),
        (put_into_development, "recognised"),
    ],
)
@pytest.mark.parametrize("is_undone", [False, True])
def test_whatever_became_of_it_here_it_is_imported_again(
    happen: Callable[[], None], outcome: str, is_undone: bool, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    file.write_text(f"STRIPE_SECRET_KEY={STRIPE}\nTWILIO_ACCOUNT_SID=AC{'0' * 32}\nTWILIO_AUTH_TOKEN={'f' * 32}")
    run_id = facts("--file", file, "--apply")["run"]
    happen()
    if is_undone:
        left = facts("--undo", run_id)["left"]
        assert any("since" in one["reason"] for one in left)
        assert not any("deleted" in one["reason"] for one in facts("--undo", run_id)["left"])
    plan = facts("--file", file)
    assert outcomes(plan)["stripe"] == ("created" if is_undone and happen is put_into_development else outcome)
    assert outcomes(facts("--file", file, "--apply")) == outcomes(plan)
    assert facts("--file", file, "--apply")["counts"] == {"recognised": 2}
    assert ExternalApiConnection.objects.filter(deleted_at=None, slug__in=("default", "shop")).count() == 2
    assert get_env_secret("STRIPE_SECRET_KEY") == STRIPE


def test_a_dry_run_goes_the_whole_way(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = []
    monkeypatch.setattr(runs, "record", lambda *given: noted.append(given))
    run("--file", file)
    assert noted


@pytest.mark.parametrize(
    "text",
    [
        f"TWILIO_ACCOUNT_SID={OTHER_SID}\nTWILIO_AUTH_TOKEN=of another\nTWILIO_PHONE_NUMBER=+1",
        f"TWILIO_ACCOUNT_SID={OTHER_SID}\nTWILIO_AUTH_TOKEN=token",
    ],
)
def test_two_accounts_are_never_mixed_in_one_connection(text: str, tmp_path: Path) -> None:
    row = make_connection(
        make_provider(slug="twilio", api_config={**presets()["twilio"].api_config}),
        credentials={"username": "AC1", "password": "token"},
    )
    update_external_api(
        make_provider(slug="facebook", api_config={**presets()["facebook"].api_config}),
        {"api_config": {"oauth2": {"client_id": "1"}}},
    )
    file = tmp_path / ".env"
    file.write_text(f"{text}\nFACEBOOK_APP_ID=2\nFACEBOOK_APP_SECRET=of app 2")
    found = facts("--file", file, "--apply")
    assert found["counts"] == {"recognised": 2}
    assert set(actions(found).values()) <= {"kept", "same"}
    stored = get_connection(row.pk)
    assert (dict(stored.credentials), stored.provider_data) == ({"username": "AC1", "password": "token"}, {})
    assert get_api_config("facebook").api_config.oauth2.client_secret is None  # type: ignore[union-attr]
    facts("--file", file, "--apply", "--overwrite")
    assert get_connection(row.pk).credentials["username"] == OTHER_SID


@pytest.mark.django_db(transaction=True)
def test_of_two_imports_at_once_the_second_recognises(file: Path) -> None:
    findings = sort_out(dotenv.read(file).values)

    def apply(_: int) -> set[str]:
        try:
            return set(importing.import_variables(findings, is_applied=True).counts)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(map(sorted, pool.map(apply, range(2)))) == [["created"], ["recognised"]]


def test_nothing_is_printed_that_a_terminal_obeys(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "\x1b[31m\u202e\x07\u2028"
    file.write_text(f"STRIPE_SECRET_KEY={'s' * 30}\x1b\u202e\x07\nGITHUB_TOKEN={'g' * 30}\u202ex")
    for text in (run("--file", file), run("--file", file, "--json")):
        assert all(line.isprintable() for line in text.splitlines())
        assert "SECRET_KEY" in text
    monkeypatch.setenv(f"OIDC_{hostile}", "1")
    monkeypatch.setenv(f"A{hostile}_TOKEN", "1")
    for text in (run(), run("--report"), run("--json")):
        assert all(line.isprintable() for line in text.splitlines())


def test_wrong_usage_and_nothing_to_read_have_exit_codes(file: Path, tmp_path: Path) -> None:
    for arguments, code in (
        (("--apply", "--undo", "imp_x"), 2),
        (("--report", "--apply"), 2),
        (("--undo", "imp_x", "--report"), 2),
        (("--undo", "imp_x", "--file", file), 2),
        (("--undo", "imp_x", "--overwrite"), 2),
        (("--tenant", "nobody"), 2),
        (("--undo", "imp_x"), 1),
        (("--file", tmp_path), 1),
        (("--file", tmp_path / "none"), 1),
    ):
        with pytest.raises(CommandError) as raised:
            run(*arguments)
        assert raised.value.returncode == code


def test_ctrl_c_leaves_everything_as_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return findings

    findings = sort_out({"STRIPE_SECRET_KEY": STRIPE, "GITHUB_TOKEN": "ghp_1"})
    monkeypatch.setattr("connections.management.commands.import_env.sort_out", interrupted)
    assert threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)  # a shell that starts the tests in the background has it ignored
    with pytest.raises(SystemExit) as raised:
        run("--file", file, "--apply")
    assert raised.value.code == 130
    assert not ExternalApi.objects.exists()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.django_db(transaction=True)
def test_ctrl_c_while_another_import_is_waited_for(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    is_held, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            runs.hold(ImportKind.ENV, importing.SOURCE)
            is_held.set()
            is_over.wait(10)
        connection.close()

    def press_twice() -> None:
        for _ in range(2):
            is_over.wait(0.15)
            os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor(2) as pool:
        pool.submit(hold)
        assert is_held.wait(10)
        pool.submit(press_twice)
        with pytest.raises(SystemExit) as raised:
            run("--file", file, "--apply")
        is_over.set()
    assert raised.value.code == 130
    assert "Ctrl-C again breaks off at once" in capfd.readouterr().err
    assert not ExternalApi.objects.exists()


def test_without_a_file_the_process_s_own_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_SECRET_KEY", STRIPE)
    assert outcomes(facts())["stripe"] == "created"

"""The old shop: its two tables in PostgreSQL with rows in every state, tables that point at them, and its keys."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.db import connection
from psycopg.types.json import Jsonb

from config import runtime

__all__ = [
    "ACCOUNTS",
    "BROKEN",
    "KEYS",
    "PAGE_ID",
    "PLATFORMS",
    "OldShop",
    "accounts",
    "key_file_text",
    "old_shop",
    "platforms",
    "sealed",
]

PLATFORMS, ACCOUNTS = "social_platform", "social_platform_account"
KEYS = {1: bytes(range(32)), 2: bytes(range(32, 64))}
PAGE_ID = "102938475601"
SOON, LONG_AGO = datetime.now(UTC) + timedelta(days=50), datetime(2024, 1, 2, tzinfo=UTC)
CREATED, UPDATED = datetime(2024, 3, 1, 8, tzinfo=UTC), datetime(2025, 5, 1, 8, tzinfo=UTC)

_DDL = """
CREATE TABLE social_platform (
    id text PRIMARY KEY, name text NOT NULL, category text NOT NULL DEFAULT 'social',
    auth_type text NOT NULL DEFAULT 'oauth2', icon_url text, base_url text, description text, api_config jsonb,
    status text NOT NULL DEFAULT 'active', metadata jsonb, created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz
);
CREATE TABLE social_platform_account (
    id text PRIMARY KEY, social_platform_id text NOT NULL, user_id text, partner_id text, sales_channel_id text,
    account_name text, page_id text, credentials jsonb, provider_data jsonb, metadata jsonb,
    token_expires_at timestamptz, status text NOT NULL DEFAULT 'active', error_message text,
    last_used_at timestamptz, last_sync_at timestamptz, authenticated_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz
);
CREATE TABLE social_post (id text PRIMARY KEY, platform_id text REFERENCES social_platform (id), caption text);
CREATE TABLE campaign (id text PRIMARY KEY, social_platform_account_id text);
"""


def sealed(text: str, version: int = 1) -> dict[str, Any]:
    """What the old encryption service made of a text."""
    iv = os.urandom(12)
    whole = AESGCM(KEYS[version]).encrypt(iv, text.encode(), None)
    parts = {"encrypted": whole[:-16], "iv": iv, "authTag": whole[-16:]}
    return {**{name: base64.b64encode(part).decode() for name, part in parts.items()}, "keyVersion": version}


def key_file_text() -> str:
    """The old service's own ``.env``."""
    keys = {version: base64.b64encode(key).decode() for version, key in KEYS.items()}
    return f"DATABASE_URL=postgres://old\nENCRYPTION_KEY={keys[2]}\nENCRYPTION_KEY_VERSION=2\nENCRYPTION_KEY_V1={keys[1]}\n"


_damaged = sealed("never-to-be-read")
BROKEN = {**_damaged, "authTag": sealed("another")["authTag"]}


def platforms() -> list[dict[str, Any]]:
    """Known and unknown ones, one twice, one deleted, one that carries an account's tokens itself."""
    app = {
        "client_id": "fb-app-1",
        "client_secret_encrypted": sealed("fb-app-secret"),
        "scopes": ["pages_manage_posts"],
    }
    twitter = {"consumer_key": sealed("tw-key"), "consumer_secret": sealed("tw-secret", 2)}
    whatsapp = {
        "provider": "whatsapp",
        "phone_number_id": "4711",
        "access_token": "wa-token-1234567890",
        "access_token_encrypted": sealed("wa-token-1234567890"),
        "provider_key": "wa-token-1234567890",
    }
    rows: list[dict[str, Any]] = [
        {
            "id": "sp_01_facebook",
            "name": "Facebook",
            "api_config": {"oauth2": app, "rate_limit": {"requests_per_hour": 9}},
        },
        {
            "id": "sp_02_linkedin",
            "name": "LinkedIn",
            "api_config": {"client_id": "li-app", "client_secret": "li-secret"},
        },
        {
            "id": "sp_03_twitter",
            "name": "Twitter",
            "auth_type": "oauth1",
            "api_config": {"oauth1_app_credentials_encrypted": twitter},
        },
        {"id": "sp_04_pixelpost", "name": "PixelPost", "category": "social"},
        {
            "id": "sp_05_craftmarket",
            "name": "Craft Market ☕",
            "category": "shipping",
            "auth_type": "bearer",
            "base_url": "https://api.craftmarket.example/v1",
            "api_config": {"webhook": {"url": "no url"}},
        },
        {
            "id": "sp_06_whatsapp",
            "name": "WhatsApp",
            "category": "communication",
            "auth_type": "bearer",
            "api_config": whatsapp,
        },
        {"id": "sp_07_gone", "name": "Vine", "deleted_at": LONG_AGO},
        {"id": "sp_08_facebook_again", "name": "Facebook", "api_config": {"oauth2": app}},
    ]
    return [{"created_at": CREATED, "updated_at": UPDATED, **row} for row in rows]


def accounts() -> list[dict[str, Any]]:
    """One in each state that there is; their names tell which."""
    page = {"page_id": PAGE_ID, "page_name": "Café Ünïcøde 🧵"}
    rows: list[dict[str, Any]] = [
        _account("living", provider_data=page, credentials=_tokens("fb-living"), token_expires_at=SOON),
        _account("to_renew", "02_linkedin", credentials=_tokens("li-old", "li-refresh"), token_expires_at=LONG_AGO),
        _account("expired", credentials=_tokens("fb-expired"), token_expires_at=LONG_AGO),
        _account("same_page", provider_data=page, credentials=_tokens("fb-other-admin"), user_id="user_other"),
        _account("twin", provider_data=page, credentials=_tokens("fb-living"), token_expires_at=SOON),
        _account("unknown_platform", "04_pixelpost", credentials=_tokens("px-token")),
        _account("no_platform", "99_nowhere", credentials=_tokens("nobody")),
        _account("broken", credentials={"access_token_encrypted": BROKEN}),
        _account("lost_key", credentials={"access_token_encrypted": {**sealed("x"), "keyVersion": 9}}),
        _account("unicode", account_name="Ångström 織物 🪡 \u202eevil", credentials=_tokens("fb-unicode")),
        _account("large", credentials=_tokens("fb-large"), metadata=_large_metadata()),
        _account("revoked", credentials={}, status="revoked"),
        _account("inactive", credentials=_tokens("fb-off"), status="inactive"),
        _account(
            "oauth1",
            "03_twitter",
            credentials={"access_token": sealed("tw-token"), "access_token_secret": sealed("tw-token-secret", 2)},
        ),
        _account("empty", credentials={"expires_at": "2030-01-01T00:00:00Z"}),
        _account("gone", credentials=_tokens("fb-gone"), deleted_at=LONG_AGO),
        _account("no_time", credentials={**_tokens("fb-time"), "expires_at": "next Tuesday"}),
        _account("clear_is_newer", credentials={**_tokens("fb-stale"), "access_token": "fb-fresh-in-clear"}),
        _account("channel", credentials=_tokens("fb-channel"), sales_channel_id="sc_01KNITTING"),
        _account("second_key", credentials=_tokens("fb-second", version=2)),
        _account("craft", "05_craftmarket", credentials=_tokens("craft-token", "craft-refresh")),
        _account("of_second_row", "08_facebook_again", credentials=_tokens("fb-second-row")),
    ]
    return rows


def _account(state: str, platform: str = "01_facebook", **columns: Any) -> dict[str, Any]:
    return {
        "id": f"spa_{state}",
        "social_platform_id": f"sp_{platform}",
        "account_name": f"Account {state}",
        "user_id": "user_01OLD",
        "created_at": CREATED,
        "updated_at": UPDATED,
        "last_used_at": UPDATED,
        **columns,
    }


def _tokens(access: str, refresh: str = "", version: int = 1) -> dict[str, Any]:
    found = {"access_token_encrypted": sealed(access, version), "token_type": "Bearer", "scopes": ["pages_show_list"]}
    return {**found, "refresh_token_encrypted": sealed(refresh, version)} if refresh else found


def _large_metadata() -> dict[str, Any]:
    """What the old OAuth callback kept of Facebook's answer: 300 KB, with the tokens of pages in it."""
    pages = [
        {"id": str(number), "about": "織" * 90, "access_token": f"page-token-{number:06d}"} for number in range(850)
    ]
    return {"pages": pages, "picture": "https://cdn.example/p.jpg?access_token=in-a-url"}


@dataclass(frozen=True)
class OldShop:
    """The old tables in a schema of their own. ``url`` reaches them as their owner does."""

    url: str
    schema: str

    def run(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> None:
        with psycopg.connect(self.url, autocommit=True) as session:
            session.execute(statement.encode(), values)

    def insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        with psycopg.connect(self.url) as session, session.cursor() as cursor:
            for row in rows:
                values = [Jsonb(value) if isinstance(value, dict | list) else value for value in row.values()]
                names, places = ", ".join(row), ", ".join(["%s"] * len(row))
                cursor.execute(f"INSERT INTO {table} ({names}) VALUES ({places})".encode(), values)

    def fill(self, count: int) -> None:
        """Add Facebook accounts with tokens in clear and a page each."""
        self.run(
            "INSERT INTO social_platform_account "
            "(id, social_platform_id, account_name, page_id, credentials, metadata, token_expires_at, updated_at) "
            "SELECT 'spa_many_' || lpad(n::text, 8, '0'), 'sp_01_facebook', 'Page ' || n, (7000000 + n)::text, "
            "jsonb_build_object('access_token', 'EAAG-' || n, 'refresh_token', 'r-' || n, 'token_type', 'Bearer'), "
            "jsonb_build_object('followers', n, 'category', 'Clothing'), now() + interval '40 days', '2025-05-01Z' "
            "FROM generate_series(1, %s) AS n",
            [count],
        )

    def export(self, folder: Path, kind: str) -> tuple[Path, Path]:
        """Write both tables as files of a kind: ``json``, ``jsonl`` or ``csv``; return their paths."""
        paths = []
        with psycopg.connect(self.url) as session, session.cursor() as cursor:
            for table in (PLATFORMS, ACCOUNTS):
                path = folder / f"{table}.{kind}"
                if kind == "csv":
                    with cursor.copy(
                        f"COPY (SELECT * FROM {table} ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)".encode()
                    ) as copy:
                        path.write_bytes(b"".join(copy))
                else:
                    cursor.execute(f"SELECT to_jsonb(t) FROM {table} t ORDER BY id".encode())
                    rows = [row for (row,) in cursor]
                    path.write_text(
                        json.dumps(rows, ensure_ascii=False, indent=1)
                        if kind == "json"
                        else "\n".join(json.dumps(row) for row in rows)
                    )
                paths.append(path)
        return paths[0], paths[1]


@contextmanager
def old_shop(schema: str = "old_shop", *, is_filled: bool = True) -> Iterator[OldShop]:
    """Make the tables in a schema of the test's database, committed; they are gone afterwards."""
    folder = Path(settings.VAR_DIR)
    if "TEST_DATABASE_URL" in os.environ:
        base = os.environ["TEST_DATABASE_URL"].rpartition("/")[0] + f"/{connection.settings_dict['NAME']}"
    else:
        database = str(connection.settings_dict["NAME"])
        base = runtime.postgres_url(runtime.socket_dir(folder), runtime.OWNER_ROLE, database)
    with psycopg.connect(base, autocommit=True) as session:
        session.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'.encode())
        session.execute(f'CREATE SCHEMA "{schema}"'.encode())
    shop = OldShop(f"{base}{'&' if '?' in base else '?'}options={quote(f'-csearch_path={schema}')}", schema)
    try:
        shop.run(_DDL)
        if is_filled:
            shop.insert(PLATFORMS, platforms())
            shop.insert(ACCOUNTS, accounts())
            shop.insert("social_post", [{"id": "post_1", "platform_id": "sp_01_facebook", "caption": "Hello"}])
        yield shop
    finally:
        with psycopg.connect(base, autocommit=True) as session:
            session.execute(f'DROP SCHEMA "{schema}" CASCADE'.encode())

"""What is taken out of log lines."""

from __future__ import annotations

import pytest

from config.logs import hide_links


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET /api/external/proxy/conn_1/bot:key/send?a=b 404", "GET /api/external/proxy/conn_1/[path]?a=b 404"),
        ("Not Found: /api/external/proxy/conn_1", "Not Found: /api/external/proxy/conn_1"),
        ("Not Found: /connect/done/token", "Not Found: /connect/done/[token]"),
        (5, 5),
    ],
)
def test_paths_that_hold_secrets(text: object, shown: object) -> None:
    assert hide_links(None, "info", {"event": text})["event"] == shown

"""Answers that came whole and mean nothing: broken JSON, and bytes in another charset than they say."""

from __future__ import annotations

import pytest

from external_apis.errors import BadAnswer
from tests.connections.client.conftest import MakeClient


def test_broken_json_is_a_value_error_and_for_lists_and_graphql_a_bad_answer(make_client: MakeClient) -> None:
    client = make_client()
    response = client.get("/broken-json")
    assert response.status_code == 200
    with pytest.raises(ValueError, match=r"Expecting|JSON"):
        response.json()
    with pytest.raises(BadAnswer, match="not JSON"):
        list(client.paginate("/broken-json", "page"))
    with pytest.raises(BadAnswer, match="not JSON"):
        client.graphql("{ a }", path="/broken-json")


@pytest.mark.parametrize("charset", ["utf-8", "utf-16", "no-such-charset", "latin-1", "idna", "base64"])
def test_a_wrong_charset_never_keeps_the_text_from_being_read(make_client: MakeClient, charset: str) -> None:
    client = make_client()
    response = client.get(f"/bad-charset?charset={charset}")
    assert isinstance(response.text, str)
    assert response.content.startswith(b'{"name"')
    with pytest.raises(BadAnswer):
        list(client.paginate(f"/bad-charset?charset={charset}", "page"))

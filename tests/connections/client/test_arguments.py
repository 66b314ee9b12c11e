"""Arguments that no call can be made of: each is refused by name, before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from connections.client import ApiClient, Event
from external_apis.api_config import parse
from external_apis.errors import ApiManagerError, InvalidInput
from tests.connections.client.conftest import make_target

if TYPE_CHECKING:
    from tests.connections.client.conftest import MakeClient

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("params", "a=b"),
        ("params", b"a=b"),
        ("params", 5),
        ("params", [("a", 1, 2)]),
        ("params", ["ab"]),
        ("params", [5]),
        ("headers", [("X-A", "b")]),
        ("headers", "X-A: b"),
        ("timeout_ms", "5"),
        ("timeout_ms", float("nan")),
        ("timeout_ms", float("inf")),
        ("timeout_ms", True),
        ("timeout_ms", 10**400),
        ("timeout_ms", 0),
        ("deadline_ms", "5"),
        ("deadline_ms", float("nan")),
        ("deadline_ms", False),
        ("data", "\ud800"),
        ("path", 5),
        ("path", b"/x"),
        ("path", None),
        ("method", 5),
    ],
)
def test_an_argument_of_another_kind_is_refused_by_name(
    make_client: MakeClient, events: list[Event], name: str, value: Any
) -> None:
    arguments = {"method": "POST", "path": "/echo", name: value}
    with pytest.raises(InvalidInput) as caught:
        make_client().request(arguments.pop("method"), arguments.pop("path"), **arguments)
    assert [item["path"] for item in caught.value.details["errors"]] == [name]
    assert not events


@pytest.mark.parametrize("options", [{"params": [["a", 1], ("b", [2, 3])]}, {"timeout_ms": 5000.5}, {"params": {}}])
def test_what_can_be_sent_is_sent(make_client: MakeClient, options: Any) -> None:
    assert make_client().get("/balance", **options).status_code == 200


@pytest.mark.parametrize("data", [b"\xff\xfe", "a=%zz", "a=b<c", "{}"])
def test_oauth1_signs_no_form_that_is_none(make_client: MakeClient, data: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_client("oauth1").post("/echo", data, headers=_FORM)
    assert [item["path"] for item in caught.value.details["errors"]] == ["data"]


def test_a_stored_base_url_that_cannot_be_parsed_is_an_error_of_ours() -> None:
    config = parse({"base_url": "https://api.example.com", "auth_type": "none"})
    target = make_target({"base_url": "https://api.example.com", "auth_type": "none"}, {})
    object.__setattr__(target, "config", config.model_copy(update={"base_url": "https://%00.com/a/../b"}))
    with pytest.raises(ApiManagerError):
        ApiClient(target)

"""The sandbox as an authorization server, reachable through the egress guard.

Models are imported where they are used: this file is read before Django has its settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox import Sandbox

if TYPE_CHECKING:
    from tests.authority import Authority
    from tests.rest import RestClient


@pytest.fixture
def authority(sandbox: Sandbox, settings: Any, tmp_path: Any) -> Authority:
    from tests.authority import Authority

    settings.EGRESS_ALLOW = ["127.0.0.1"]
    settings.SPOOL_DIR = str(tmp_path / "spool")
    return Authority(sandbox)


@pytest.fixture
def staff() -> RestClient:
    """Somebody of the whole installation who may do everything with providers and connections."""
    from tests.factories import MANAGER, make_user
    from tests.rest import signed_in

    return signed_in(make_user(permissions=MANAGER))

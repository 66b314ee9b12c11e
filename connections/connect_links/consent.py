"""Send somebody from a link to the provider's own page."""

from __future__ import annotations

from collections.abc import Mapping

from connections.connect_links.asking import questions, read_answers
from connections.connect_links.browsers import bound_to
from connections.connecting import Wish, begin_flow
from connections.models import ConnectLink
from external_apis.providers import open_config

__all__ = ["begin"]


def begin(link: ConnectLink, posted: Mapping[str, str], browser: str, *, origin: str = "") -> str:
    """Begin an attempt that only this browser can finish; return the provider's address for it.

    ``browser`` is its cookie's value, ``origin`` where it sees us. Raises `InvalidInput` for a missing part of the
    provider's URLs, and what `begin_flow` raises.
    """
    api = link.external_api
    config = open_config(api).api_config
    known = link.connection.provider_data if link.connection else {}
    _, provider_data = read_answers(questions(api, config, known), posted, config, known)
    body = {
        "connection_name": (link.connection_name or api.name)[:200],
        "sales_channel_id": link.tenant_id,
        "partner_id": link.partner_id,
        "user_id": link.user_id,
        "owner_id": link.owner_id,
        "provider_data": provider_data,
    }
    wish = Wish(api, bound_to(browser, link.pk), connection=link.connection, body=body, link=link)
    return begin_flow(wish, origin=origin)

"""Makes the connections whose consent was given, and that a crash or an outage kept from the database.

Each is made once: the attempt's row, locked, says whether it has been.
"""

from __future__ import annotations

from functools import partial

import structlog
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError

from connections import connecting
from connections.connect_links.fulfilment import fulfil
from connections.models import OAuthFlow
from connections.oauth import first_answers
from connections.oauth.spool import Entry
from external_apis import request_context
from external_apis.errors import ApiManagerError, UnknownKey

__all__ = ["recover", "recover_at_start"]

log = structlog.get_logger(__name__)


def recover() -> int:
    """Make what can be made of the answers that lie in the spool; return how many connections that were.

    Repeat it at will. Raises Django's database errors while the database is away.
    """
    count = 0
    with first_answers.left() as found:
        for file in found:
            verdicts = [_apply(entry) for entry in file.entries()]
            count += verdicts.count("applied")
            if "kept" not in verdicts:
                file.remove()
    return count


def recover_at_start() -> None:
    """The same for a process that starts: a database that is away is left to the next sweep."""
    try:
        recover()
    except DatabaseError as error:
        log.warning("first answers wait for the database", error=type(error).__name__)


def _apply(entry: Entry) -> str:
    paths = ("external_api__tenant", "connection__external_api", "connection__tenant", "tenant", "link")
    flow = OAuthFlow.objects.select_related(*paths).filter(pk=entry.connection_id).first()
    if flow is None or flow.made_connection_id or flow.error:
        first_answers.settle(entry)
        return "dropped"
    on_stored = partial(fulfil, flow.link, at=flow.used_at) if flow.link else None
    try:
        with request_context.acting(f"link:{flow.link_id}" if flow.link_id else flow.created_by or "system"):
            connecting.store_late(flow, first_answers.open_entry(entry), on_stored=on_stored)
    except (OperationalError, InterfaceError):
        raise
    except UnknownKey as error:
        log.error("a first answer does not open", flow_id=flow.pk, reason=error.code)  # noqa: TRY400
        return "kept"
    except ApiManagerError as error:
        log.warning("a first answer came to nothing", flow_id=flow.pk, reason=error.code)
        verdict = "dropped"
    except Exception:  # one that nobody can store keeps no other from being stored
        log.exception("a first answer could not be stored", flow_id=flow.pk)
        return "kept"
    else:
        log.warning("a first answer was stored late", flow_id=flow.pk)
        verdict = "applied"
    first_answers.settle(entry)
    return verdict

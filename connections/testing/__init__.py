"""For the tests of those who use this product: connections that no database knows.

A fake connection plays canned answers to a real `ApiClient` and records what it sends, signatures included; a sandbox
connection calls the strict fake provider over a real socket. In both, `get_api_client` gives out the double for as long
as the block lasts, wherever it is called::

    answers = [{"id": "pi_1"}, Canned(402, json={"error": {"code": "card_declined"}})]
    with fake_connection("stripe/default", answers) as calls:
        charge("tok_visa")
    assert calls[0].form == {"amount": "2000", "source": "tok_visa"}

``connections.testing.fixtures`` is a pytest plugin with the same as fixtures.
"""

from connections.testing.doubles import Calls, Canned, Sent, fake_connection
from connections.testing.sandbox import Sandbox, running_sandbox, sandbox_connection

__all__ = ["Calls", "Canned", "Sandbox", "Sent", "fake_connection", "running_sandbox", "sandbox_connection"]

"""Whether a delivery comes from the provider: its signature, and then its time."""

from __future__ import annotations

import secrets
from enum import Enum

from connections.webhooks.inbound.deliveries import Delivery
from connections.webhooks.inbound.receivers import Receiver
from connections.webhooks.inbound.schemes import SCHEMES
from connections.webhooks.inbound.signatures import UnusableSecret

__all__ = ["Verdict", "fits_any", "judge"]


class Verdict(Enum):
    GENUINE = "genuine"
    UNUSABLE = "unusable"
    """There is no provider, it is switched off, or it lacks what is needed."""
    UNSIGNED = "unsigned"
    """A header of the scheme is missing."""
    UNPROVEN = "unproven"
    """No secret of the provider fits the signature."""
    UNTIMELY = "untimely"
    """The signature fits, and its time is too long ago or too far ahead."""


_DECOY = Receiver("", scheme=SCHEMES["github"], secrets=(secrets.token_hex(32),))


def judge(receiver: Receiver, delivery: Delivery, now: float) -> Verdict:
    """Tell what a delivery is; ``now`` is in seconds since 1970.

    Signatures are calculated in any case, also where there is nothing to compare them with: how long that takes does
    not say whether there is such a provider.
    """
    is_usable = receiver.scheme is not None and not receiver.problem
    known = receiver if is_usable else _DECOY
    assert known.scheme is not None  # noqa: S101 (tells the type checker)
    fitting = fits_any(known, delivery, known.secrets)
    if not is_usable:
        return Verdict.UNUSABLE
    if not all(delivery.header(name) for name in known.scheme.signature.required):
        return Verdict.UNSIGNED
    if not fitting:
        return Verdict.UNPROVEN
    signed_at = known.scheme.signature.signed_at(delivery)
    if signed_at is not None and abs(now - signed_at) > known.tolerance_seconds:
        return Verdict.UNTIMELY
    return Verdict.GENUINE


def fits_any(receiver: Receiver, delivery: Delivery, candidates: tuple[str, ...]) -> bool:
    """Whether one of the secrets fits; all are tried in any case. One that the scheme cannot use fits nothing."""
    fitting = False
    for secret in candidates:
        try:
            fitting |= receiver.scheme is not None and receiver.scheme.signature.fits(delivery, secret)
        except UnusableSecret:
            continue
    return fitting

"""Remembers tokens that have been verified, so that a busy client costs one signature check and not one per
request.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from taskcast_core.contracts.auth import Principal
from taskcast_core.values import frozen

MAX_TOKENS = 4096


@frozen
class _Verified:
    principal: Principal
    until: float


class VerifiedTokens:
    """At most ``capacity`` principals by the hash of their token, least recently used out first."""

    def __init__(self, capacity: int = MAX_TOKENS) -> None:
        self._capacity = capacity
        self._known: OrderedDict[bytes, _Verified] = OrderedDict()

    def get(self, token: str, now: float) -> Principal | None:
        """The principal of a token, unless it is unknown or its time (Unix s) is over."""
        key = _key(token)
        found = self._known.get(key)
        if found is None:
            return None
        if now >= found.until:
            del self._known[key]
            return None
        self._known.move_to_end(key)
        return found.principal

    def put(self, token: str, principal: Principal, until: float) -> None:
        """Remember a token that has just been verified, until then (Unix s)."""
        self._known[_key(token)] = _Verified(principal, until)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)

    def __len__(self) -> int:
        return len(self._known)


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()

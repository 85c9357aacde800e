"""Every request has an id: the caller's own, if it sends a sensible one, in log lines, spans and the reply."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from itertools import count

HEADER = b"x-request-id"
current: ContextVar[str | None] = ContextVar("taskcast_request_id", default=None)
"""The id of the request that this coroutine works for."""

_SENSIBLE = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}").fullmatch
_PROCESS = os.urandom(5).hex().encode()
_numbers = count(1)


def request_id(given: bytes | None) -> bytes:
    """The id that was sent along, or a new one: unique over processes."""
    if given is not None and _SENSIBLE(given):
        return given
    return b"%b-%x" % (_PROCESS, next(_numbers))

"""What the driver raises, as our errors: the one place where they are told apart."""

from __future__ import annotations

import psycopg
from psycopg import errors
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from taskcast_core.errors import StoreUnavailable
from taskcast_postgres.health import DEPENDENCY

TROUBLE = (psycopg.Error, OSError, TimeoutError)
"""What a call may raise when something is wrong with PostgreSQL, the way there, or what it was given."""

REFUSED = (
    psycopg.DataError,
    errors.CheckViolation,
    errors.NotNullViolation,
    errors.ExclusionViolation,
    errors.ProgramLimitExceeded,
    errors.StatementTooComplex,
    errors.RaiseException,
)
"""The server is well and does not want this very row."""

BUSY = "busy"
"""Kind of an error that a repeat of the transaction may cure."""

_BY_STATE = {
    "57014": "timeout",
    "55P03": "timeout",
    "25006": "read_only",
    "53100": "disk_full",
    "53200": "out_of_memory",
    "40001": BUSY,
    "40P01": BUSY,
}
_BY_WORD = (
    ("refused", "connection_refused"),
    ("timeout", "timeout"),
    ("timed out", "timeout"),
    ("could not translate host", "dns"),
    ("name resolution", "dns"),
    ("Name or service not known", "dns"),
    ("getaddrinfo", "dns"),
    ("authentication failed", "authentication"),
    ("no password supplied", "authentication"),
    ("pg_hba.conf", "authentication"),
    ("reset by peer", "connection_reset"),
    ("Broken pipe", "connection_reset"),
    ("closed the connection unexpectedly", "connection_reset"),
    ("SSL", "tls"),
    ("closed", "connection_closed"),
    ("lost", "connection_closed"),
)
"""libpq tells most of its own troubles in words only."""


def kind_of(error: BaseException) -> str:
    """The error's kind (wire spec, storage section 9)."""
    if isinstance(error, TooManyRequests):
        return "overloaded"
    if isinstance(error, PoolTimeout | TimeoutError | errors.ConnectionTimeout):
        return "timeout"
    if isinstance(error, PoolClosed):
        return "connection_closed"
    if isinstance(error, REFUSED):
        return "rejected"
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    if state:
        return "authentication" if state.startswith("28") else _BY_STATE.get(state, "unavailable")
    text = str(error)
    return next((kind for word, kind in _BY_WORD if word in text), "unavailable")


def is_outage(error: BaseException) -> bool:
    """Whether it says that PostgreSQL is away, not only that this call failed."""
    if isinstance(error, TooManyRequests):
        return False
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return state is None or state[:2] in ("08", "28", "53", "57", "58", "3D")


def unavailable(error: BaseException, kind: str | None = None) -> StoreUnavailable:
    """What callers get to see of it."""
    translated = StoreUnavailable(DEPENDENCY, kind or kind_of(error))
    translated.__cause__ = error
    return translated

"""What the driver raises, as our errors: the one place where they are told apart."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl

from redis import exceptions as driver

from taskcast_core.errors import StoreUnavailable

COMMAND, PUB_SUB = "redisCommand", "redisPubSub"
"""The dependencies' names (wire spec, storage section 9)."""

TROUBLE = (driver.RedisError, driver.RedisClusterException, OSError, TimeoutError, asyncio.IncompleteReadError)
"""What a call to Redis may raise when something is wrong with Redis or the way there."""

_BY_ERRNO = {
    errno.ECONNREFUSED: "connection_refused",
    errno.ENOENT: "connection_refused",
    errno.ECONNRESET: "connection_reset",
    errno.EPIPE: "connection_reset",
    errno.ETIMEDOUT: "timeout",
}
_BY_WORD = (
    ("WRONGPASS", "authentication"), ("NOAUTH", "authentication"), ("NOPERM", "authentication"),
    ("LOADING", "unavailable"), ("MASTERDOWN", "unavailable"), ("READONLY", "unavailable"),
    ("CLUSTERDOWN", "unavailable"), ("TRYAGAIN", "unavailable"), ("OOM", "out_of_memory"), ("MISCONF", "disk"),
    ("NOREPLICAS", "replicas"), ("BUSY", "busy"),
)  # fmt: skip


def kind_of(error: BaseException) -> str:
    """The error's kind (wire spec, storage section 9)."""
    for each in _causes(error):
        if isinstance(each, driver.AuthenticationError | driver.NoPermissionError):
            return "authentication"
        if isinstance(each, TimeoutError | driver.TimeoutError):
            return "timeout"
        if isinstance(each, socket.gaierror):
            return "dns"
        if isinstance(each, ssl.SSLError):
            return "tls"
        if isinstance(each, OSError) and each.errno in _BY_ERRNO:
            return _BY_ERRNO[each.errno]
    text = str(error)
    for word, kind in _BY_WORD:
        if text.startswith(word) or f" {word} " in text:
            return kind
    if isinstance(error, driver.ConnectionError | asyncio.IncompleteReadError):
        return "connection_closed"
    return "unavailable"


def is_mistake(error: BaseException) -> bool:
    """Whether Redis is well and refuses what we asked for: a defect, not an outage."""
    return isinstance(error, driver.ResponseError) and kind_of(error) == "unavailable" and not _is_of_server(error)


def _is_of_server(error: BaseException) -> bool:
    return isinstance(error, driver.ReadOnlyError | driver.ClusterError | driver.AskError) or any(
        str(error).startswith(word) for word, _ in _BY_WORD
    )


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in found:
        found.append(each)
        each = each.__cause__ or each.__context__
    return found


def unavailable(error: BaseException, dependency: str = COMMAND) -> StoreUnavailable:
    """What callers get to see of it."""
    translated = StoreUnavailable(dependency, kind_of(error))
    translated.__cause__ = error
    return translated

"""Keys that the issuer publishes as a JSON Web Key Set: fetched, kept, rotated.

- A set is fresh for ``jwksCacheSeconds``; after that the next token that needs it waits for a new one.
- A token whose ``kid`` is unknown causes a fetch as well (the issuer may have rotated), at most every ten
  seconds, so that invented kids cannot make this server hammer the issuer.
- One fetch at a time; everybody who needs it waits for the same one, at most ``jwksTimeoutSeconds``.
- While the issuer is away the old set goes on being used, for a day. Without any set the answer is 503, not
  401: the token may be perfectly good, and clients would throw it away.
- A token without ``kid`` is accepted only where a single key of the set can be meant.

"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import httpx
import orjson
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from taskcast_core.errors import ConfigError, StoreUnavailable
from taskcast_server.auth.keys import ASYMMETRIC, VerificationKey, fits
from taskcast_server.auth.options import SYMMETRIC

_log = logging.getLogger(__name__)

MAX_BYTES = 1 << 20
MAX_KEYS = 200
RETRY_AFTER_S = 10.0
STALE_FOR_S = 86_400.0


class Jwks:
    """A key source on a key set. Open it with ``async with``; that starts the first fetch and does not wait for it."""

    def __init__(
        self,
        url: str,
        *,
        algorithm: str | None = None,
        fresh_for_s: float = 300,
        timeout_s: float = 5,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ConfigError for a URL that is not http(s), or a symmetric algorithm."""
        parsed = _checked(url)
        if algorithm in SYMMETRIC:
            raise ConfigError(f"auth.jwt.algorithm is {algorithm}; keys from auth.jwt.jwksUrl are never shared secrets")
        self._url = parsed
        self._algorithm = algorithm
        self._fresh_for_s, self._timeout_s = fresh_for_s, timeout_s
        self._monotonic = monotonic
        self._keys: tuple[tuple[str | None, VerificationKey], ...] = ()
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._failure = "unavailable"
        self._fetching: asyncio.Task[None] | None = None
        self._client = httpx.AsyncClient(timeout=timeout_s, follow_redirects=False)

    async def __aenter__(self) -> Jwks:
        self._start_fetch()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        await self._client.aclose()

    async def find(self, algorithm: str, kid: str | None) -> VerificationKey | None:
        """See `KeySource`."""
        if algorithm not in ASYMMETRIC or self._algorithm not in (None, algorithm):
            return None
        if self._age() > self._fresh_for_s:
            await self._refresh()
        found = self._look_up(algorithm, kid)
        if found is None and self._fetched_at is not None:
            await self._refresh()
            found = self._look_up(algorithm, kid)
        if self._age() > STALE_FOR_S:
            raise StoreUnavailable("jwks", self._failure)
        return found

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._monotonic() - self._fetched_at

    def _look_up(self, algorithm: str, kid: str | None) -> VerificationKey | None:
        meant = [key for its_kid, key in self._keys if key.algorithm == algorithm and kid in (None, its_kid)]
        return meant[0] if len(meant) == 1 else None

    async def _refresh(self) -> None:
        """Wait for a fetch, unless the last one is too recent for another."""
        if self._fetching is None:
            if self._tried_at is not None and self._monotonic() - self._tried_at < RETRY_AFTER_S:
                return
            self._start_fetch()
        assert self._fetching is not None
        await asyncio.wait({self._fetching}, timeout=self._timeout_s)

    def _start_fetch(self) -> None:
        self._tried_at = self._monotonic()
        self._fetching = asyncio.create_task(self._fetch(), name="jwks-fetch")
        self._fetching.add_done_callback(self._fetched)

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the key set of the token issuer could not be read", exc_info=error)

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                found = usable_keys(await self._download(), self._algorithm)
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            self._failure = "timeout" if isinstance(error, TimeoutError | httpx.TimeoutException) else "unavailable"
            _log.warning("no key set from %s: %s", self._url.host, str(error) or type(error).__name__)
            return
        self._keys, self._fetched_at = found, self._monotonic()
        if not found:
            _log.warning("the key set of %s holds no key that tokens can be verified with", self._url.host)

    async def _download(self) -> bytes:
        body = bytearray()
        # Not compressed, so that the bound is one of memory, too.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with self._client.stream("GET", self._url, headers=headers) as response:
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"HTTP {response.status_code}")
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise ValueError(f"more than {MAX_BYTES} bytes")
        return bytes(body)


def usable_keys(text: bytes, algorithm: str | None) -> tuple[tuple[str | None, VerificationKey], ...]:
    """The (kid, key) pairs of a key set that may verify signatures; others are left out.

    Raises:
        ValueError: it is no key set.
    """
    document = orjson.loads(text)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a key set")
    found = []
    for entry in entries[:MAX_KEYS]:
        key = _usable(entry, algorithm) if isinstance(entry, dict) else None
        kid = entry.get("kid") if key else None
        if key and (kid is None or isinstance(kid, str)):
            found.append((kid, key))
    return tuple(found)


def _usable(entry: dict[str, Any], pinned: str | None) -> VerificationKey | None:
    operations = entry.get("key_ops")
    if entry.get("use", "sig") != "sig" or (isinstance(operations, list) and "verify" not in operations):
        return None
    declared = entry.get("alg")
    if declared is not None and (declared not in ASYMMETRIC or pinned not in (None, declared)):
        return None
    try:
        key = PyJWK(entry, declared or pinned)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    return VerificationKey(key.algorithm_name, key.key) if fits(key.key, key.algorithm_name) else None


def _checked(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError("auth.jwt.jwksUrl is not a URL") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError("auth.jwt.jwksUrl must be an http or https URL")
    if parsed.scheme == "http" and parsed.host not in ("localhost", "127.0.0.1", "::1"):
        _log.warning("auth.jwt.jwksUrl is not https: whoever is on the way can put in keys of their own")
    return parsed

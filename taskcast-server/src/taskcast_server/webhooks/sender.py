"""Posts deliveries: one attempt per call, judged, timed and never raising for what a receiver does.

Redirects are followed here, at most three, each to a newly checked address:

- 301, 302, 307 and 308 repeat the POST with its body (HTTP leaves the method to us for the first two, and a
  delivery without its body says nothing); 303 fetches the answer with GET, without body and signatures;
- on the way to another origin the signatures and the credentials of the URL stay behind: they are for the
  receiver that was named. From https to http no redirect is followed;
- anything else than 2xx in the end is a failure.

Proxies of the environment are not used: they would connect where the guard cannot look.

"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

import httpcore
import httpx
from attrs import evolve

from taskcast_core.models import WebhookConfig
from taskcast_server.webhooks.backoff import merge_retry
from taskcast_server.webhooks.guard import GuardedBackend, Resolve, SystemResolver, TargetRefused
from taskcast_server.webhooks.options import Retry, WebhookOptions
from taskcast_server.webhooks.outcomes import Outcome
from taskcast_server.webhooks.signing import SIGNATURE_HEADERS, delivery_headers
from taskcast_server.webhooks.targets import basic_credentials, check_characters, parse_target, same_origin

MAX_REDIRECTS = 3
_REPEATED = frozenset({301, 302, 307, 308})
_SEE_OTHER = 303
_DRAIN_BYTES = 16_384
_DRAIN_S = 0.5
_KEPT_CONNECTIONS = 20
_IDLE_S = 30.0
_MAX_REASON = 200
_FAILURES = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError)


class WebhookSender:
    """Sends deliveries over one bounded pool of connections. Open it with ``async with``."""

    def __init__(
        self,
        options: WebhookOptions | None = None,
        *,
        resolve: Resolve | None = None,
        ssl_context: ssl.SSLContext | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """``resolve`` and ``ssl_context`` replace the system's resolver and certificates; ``now_s`` is Unix seconds."""
        self._options = options or WebhookOptions()
        self._given_resolve, self._ssl_context = resolve, ssl_context
        self._now_s = now_s
        self._resolver: SystemResolver | None = None
        self._pool: httpcore.AsyncConnectionPool | None = None

    async def __aenter__(self) -> WebhookSender:
        resolve = self._given_resolve
        if resolve is None:
            resolve = self._resolver = SystemResolver()
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=self._ssl_context or httpx.create_ssl_context(),
            max_connections=self._options.max_connections,
            max_keepalive_connections=min(_KEPT_CONNECTIONS, self._options.max_connections),
            keepalive_expiry=_IDLE_S,
            network_backend=GuardedBackend(resolve, allow_private=self._options.allow_private_networks),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            await self._pool.aclose()
            self._pool = None
        if self._resolver is not None:
            self._resolver.close()

    async def send(
        self,
        config: WebhookConfig,
        body: bytes,
        *,
        event_type: str,
        event_id: str,
        built_at_s: int,
        attempt: int = 1,
        traceparent: str | None = None,
    ) -> Outcome:
        """Make one attempt to deliver ``body``.

        Args:
            config: whose URL, secret and timeout are used.
            body: sent as it is.
            event_type: for ``X-Taskcast-Event``.
            event_id: for ``webhook-id``; receivers recognise repeats by it.
            built_at_s: Unix seconds when the delivery was first built; pass the same on every attempt.
            attempt: 1 for the first.
            traceparent: the W3C trace context that goes with it.
        """
        timeout_s = merge_retry(config.retry, self._options.default_retry).timeout_ms / 1000
        headers = delivery_headers(
            config.secret, body, event_type=event_type, event_id=event_id,
            built_at_s=built_at_s, sent_at_s=int(self._now_s()), attempt=attempt,
        )  # fmt: skip
        if traceparent is not None:
            headers["traceparent"] = traceparent
        started = time.monotonic()

        def outcome(status: int | None = None, error: str | None = None, *, may_retry: bool = True) -> Outcome:
            latency_ms = round((time.monotonic() - started) * 1000)
            delivered = status is not None and 200 <= status < 300
            return Outcome(delivered, latency_ms, status, error, may_retry)

        try:
            async with asyncio.timeout(timeout_s) as limit:
                result = outcome(await self._follow(config.url, headers, body, timeout_s, limit))
        except (TimeoutError, httpcore.TimeoutException):
            result = outcome(error=f"no answer within {timeout_s:g} s")
        except (TargetRefused, _BadRedirect, ValueError) as error:
            result = outcome(error=str(error), may_retry=False)
        except _FAILURES as error:
            result = outcome(error=_described(error))
        return result

    def change_default_retry(self, retry: Retry) -> None:
        """The time limit of attempts whose webhook names none, from now on."""
        self._options = evolve(self._options, default_retry=retry)

    async def _follow(
        self, text: str, headers: dict[str, str], body: bytes, timeout_s: float, limit: asyncio.Timeout
    ) -> int:
        """Request, and follow redirects; the final status."""
        url = parse_target(text)
        method, content = "POST", body
        if (credentials := basic_credentials(url)) is not None:
            headers = {**headers, "Authorization": credentials}
        for _ in range(MAX_REDIRECTS + 1):
            status, location = await self._request(method, url, headers, content, timeout_s, limit)
            if location is None:
                return status
            url, previous = _redirected(url, location), url
            if status == _SEE_OTHER:
                method, content = "GET", b""
                headers = {"X-Taskcast-Event": headers["X-Taskcast-Event"]}
            elif not same_origin(previous, url):
                kept = SIGNATURE_HEADERS | {"Authorization"}
                headers = {name: value for name, value in headers.items() if name not in kept}
        raise _BadRedirect(f"more than {MAX_REDIRECTS} redirects")

    async def _request(
        self,
        method: str,
        url: httpx.URL,
        headers: dict[str, str],
        content: bytes,
        timeout_s: float,
        limit: asyncio.Timeout,
    ) -> tuple[int, str | None]:
        """One request: the status, and where it leads if it is a redirect."""
        if self._pool is None:
            raise RuntimeError("the sender is not open")
        wire_headers = [(b"Host", url.netloc), (b"User-Agent", b"taskcast-webhook"), (b"Accept", b"*/*")]
        wire_headers += [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        if content:
            wire_headers.append((b"Content-Length", b"%d" % len(content)))
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        waits = dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)
        async with self._pool.stream(
            method, target, headers=wire_headers, content=content, extensions={"timeout": waits}
        ) as response:
            location = _location(response)
            if location is None:
                # The receiver has answered in time; how long its body takes is no longer its delivery's business.
                limit.reschedule(None)
            await _drain(response)
        return response.status, location


class _BadRedirect(Exception):
    """A redirect that is not followed."""


def _location(response: httpcore.Response) -> str | None:
    if response.status not in _REPEATED and response.status != _SEE_OTHER:
        return None
    found = next((value for name, value in response.headers if name.lower() == b"location"), None)
    return None if found is None else found.decode("latin-1")


def _redirected(url: httpx.URL, location: str) -> httpx.URL:
    try:
        check_characters(location)
        target = parse_target(str(url.join(location)))
    except (ValueError, httpx.InvalidURL) as error:
        raise _BadRedirect("redirected to something that is no http or https URL") from error
    if url.scheme == "https" and target.scheme == "http":
        raise _BadRedirect("redirected from https to http")
    return target


async def _drain(response: httpcore.Response) -> None:
    """Read a short body, so that the connection can be used again; leave a long or slow one."""
    size = 0
    with suppress(TimeoutError, *_FAILURES):
        async with asyncio.timeout(_DRAIN_S):
            async for chunk in response.aiter_stream():
                size += len(chunk)
                if size > _DRAIN_BYTES:
                    return


def _described(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text[:_MAX_REASON]

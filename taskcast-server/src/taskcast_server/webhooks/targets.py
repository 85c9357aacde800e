"""Reading a webhook's URL; the one parser that validation, sender and log share, so that all see the same host."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

import attrs

from taskcast_core.models import WebhookConfig

if TYPE_CHECKING:
    import httpx

MAX_URL_LENGTH = 2048
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
_HOST = re.compile(rb"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9]+)?")
_PASSWORD = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://[^/?#@:]*):[^/?#]*@")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def parse_target(url: str) -> httpx.URL:
    """The URL of a receiver.

    Raises:
        ValueError: it is not http(s), has no host, is too long, or holds characters that parsers disagree about
            (backslashes, blanks, control characters); the message is for the caller.
    """
    import httpx

    if len(url) > MAX_URL_LENGTH:
        raise ValueError(f"must be at most {MAX_URL_LENGTH} characters")
    check_characters(url)
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        raise ValueError("must be an http or https URL with a host") from None
    if parsed.scheme not in _DEFAULT_PORTS or not _HOST.fullmatch(parsed.raw_host):
        raise ValueError("must be an http or https URL with a host")
    if not 0 < _port(parsed) < 65_536:
        raise ValueError("must have a port from 1 to 65535")
    return parsed


def check_characters(url: str) -> None:
    """Raise ValueError where a URL, whole or relative, holds characters that parsers disagree about."""
    if _FORBIDDEN.search(url):
        raise ValueError("must not contain blanks, backslashes or control characters")


def loggable(url: str) -> str:
    """The origin of a URL: what may stand in a log. Credentials, path and query may all hold secrets."""
    try:
        parsed = parse_target(url)
    except ValueError:
        return "an invalid URL"
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii', 'replace')}"


def without_secrets(webhook: WebhookConfig) -> WebhookConfig:
    """The webhook as replies may show it: no secret, and the password in its URL masked."""
    return attrs.evolve(webhook, secret=None, url=_PASSWORD.sub(r"\1:***@", webhook.url))


def same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether scheme, host and port agree; moving up from http to https on the default ports counts as well."""
    if one.host != other.host:
        return False
    if (one.scheme, _port(one), other.scheme, _port(other)) == ("http", 80, "https", 443):
        return True
    return one.scheme == other.scheme and _port(one) == _port(other)


def basic_credentials(url: httpx.URL) -> str | None:
    """The Authorization header that the URL's user and password ask for."""
    if not url.userinfo:
        return None
    pair = f"{url.username}:{url.password}".encode()
    return "Basic " + base64.b64encode(pair).decode("ascii")


def _port(url: httpx.URL) -> int:
    return _DEFAULT_PORTS[url.scheme] if url.port is None else url.port

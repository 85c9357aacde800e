"""From a URL to a driver's client: single server, Sentinel or Cluster; it neither retries nor waits forever."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import Redis, RedisCluster, Sentinel, SentinelConnectionPool
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from taskcast_core.errors import ConfigError
from taskcast_redis.options import RedisOptions
from taskcast_redis.tls import share_context

Client = Redis | RedisCluster

_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
_PORTS = {"sentinel": 26379, "cluster": 6379}


def make_client(options: RedisOptions) -> Client:
    """A client for commands, not connected yet.

    Raises:
        ConfigError: the URL is not of a form that we know.
    """
    parts = urlsplit(options.url)
    if parts.scheme not in _SCHEMES:
        raise ConfigError(f'the Redis URL begins with "{parts.scheme}:"; known are {", ".join(_SCHEMES)}')
    scheme, _, topology = parts.scheme.partition("+")
    settings = _settings(options, parts, tls=scheme == "rediss")
    client = _client(options, parts, topology, settings)
    if scheme == "rediss":
        for each in (client, *sentinels_of(client)):
            share_context(each)
    return client


def _client(options: RedisOptions, parts: SplitResult, topology: str, settings: dict[str, Any]) -> Client:
    if topology == "sentinel":
        return _sentinel(options, parts, settings)
    if topology == "cluster":
        nodes = [ClusterNode(host, port) for host, port in _hosts(parts, topology)]
        return RedisCluster(startup_nodes=nodes, **settings)
    if parts.scheme == "unix":
        settings = {name: value for name, value in settings.items() if not name.startswith("ssl")}
    settings.pop("ssl", None)  # the scheme says it
    client: Client = Redis.from_url(options.url, **settings)
    return client


def _settings(options: RedisOptions, parts: SplitResult, *, tls: bool) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "socket_timeout": options.command_timeout_ms / 1000,
        "socket_connect_timeout": options.connect_timeout_ms / 1000,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "protocol": 2,
        "client_name": "taskcast",
        "username": options.username or (unquote(parts.username) if parts.username else None),
        "password": options.password or (unquote(parts.password) if parts.password else None),
    }
    if tls:
        settings |= {
            "ssl": True,
            "ssl_ca_certs": options.tls_ca_file,
            "ssl_certfile": options.tls_cert_file,
            "ssl_keyfile": options.tls_key_file,
            "ssl_check_hostname": options.tls_check_hostname,
        }
    return settings


def _sentinel(options: RedisOptions, parts: SplitResult, settings: dict[str, Any]) -> Client:
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ConfigError("the Redis URL names no Sentinel service: redis+sentinel://host:port,…/service")
    if database and not database.isdecimal():
        raise ConfigError(f'the database in the Redis URL is "{database}", not a number')
    guard_settings = settings | {"username": None, "password": options.sentinel_password or settings["password"]}
    sentinel: Any = Sentinel(_hosts(parts, "sentinel"), sentinel_kwargs=guard_settings, **settings)  # type: ignore[no-untyped-call]
    client: Client = sentinel.master_for(service, db=int(database or 0))
    return client


def sentinels_of(client: Client) -> list[Client]:
    """The clients by which a client asks Sentinels for its master; they are not closed with it."""
    pool = client.connection_pool if isinstance(client, Redis) else None
    return list(pool.sentinel_manager.sentinels) if isinstance(pool, SentinelConnectionPool) else []


def _hosts(parts: SplitResult, topology: str) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for place in parts.netloc.rpartition("@")[2].split(","):
        host, colon, port = place.rpartition(":") if not place.endswith("]") else (place, "", "")
        if colon and not port.isdecimal():
            raise ConfigError(f'"{place}" in the Redis URL is not host:port')
        name = (host if colon else place).strip("[]")
        if not name:
            raise ConfigError("the Redis URL names no host")
        found.append((name, int(port) if colon else _PORTS[topology]))
    return found

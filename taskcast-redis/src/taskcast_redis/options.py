"""The options of the Redis adapters."""

from __future__ import annotations

from attrs import frozen

from taskcast_core.config.options import option


@frozen
class RedisOptions:
    """Where Redis is, and how long anything may take.

    ``url`` is ``redis://``, ``rediss://`` (TLS) or ``unix://``; ``redis+sentinel://host:port,…/service/db`` asks
    Sentinels for the master, ``redis+cluster://host:port,…`` speaks to a Cluster (``rediss+…`` with TLS). User,
    password and database stand in the URL as usual; the Sentinels get the same password unless ``sentinel_password``
    is set.
    """

    url: str = option(
        "redis://localhost:6379/0", env="TASKCAST_REDIS_URL", secret=True, help="where Redis is, see the adapter's page"
    )
    prefix: str = option("taskcast", env="TASKCAST_REDIS_PREFIX", help="what all keys and channels begin with")
    shards: int | None = option(
        None, minimum=1, maximum=512, help="slots that tasks are spread over; fixed by the first start (16)"
    )
    wait_replicas: int = option(0, minimum=0, help="replicas that must have a write before it is acknowledged")
    username: str | None = option(None, help="ACL user, if the URL names none")
    password: str | None = option(None, secret=True, help="password, if the URL has none")
    sentinel_password: str | None = option(None, secret=True, help="password of the Sentinels, if it is another one")
    tls_ca_file: str | None = option(None, help="certificate authorities to trust instead of the system's")
    tls_cert_file: str | None = option(None, help="client certificate")
    tls_key_file: str | None = option(None, help="its key")
    tls_check_hostname: bool = option(default=True, help="whether the server's certificate must name its host")
    max_connections: int = option(32, minimum=2, help="calls in flight at once; further callers wait")
    connect_timeout_ms: int = option(2_000, minimum=1, help="for a connection to come up")
    command_timeout_ms: int = option(5_000, minimum=1, help="for a reply; then the outcome is unknown")
    start_timeout_ms: int = option(15_000, minimum=1, help="how long start-up tries to reach Redis")
    heartbeat_ms: int = option(750, minimum=10, help="how often both connections are asked for a sign of life")
    heartbeat_timeout_ms: int = option(1_000, minimum=10, help="silence after which this process is not ready")
    silence_ms: int = option(3_000, minimum=10, help="silence after which calls fail and connections are made anew")
    retry_first_ms: int = option(500, minimum=1, help="wait before the second attempt to connect; doubles, with jitter")
    retry_most_ms: int = option(4_000, minimum=1, help="the longest such wait")
    queue_size: int = option(10_000, minimum=1, help="changes that may wait for their turn; then 503")

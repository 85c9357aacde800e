"""What the server itself reads from the configuration: where it listens, its limits, ``cors`` and ``docs``."""

from __future__ import annotations

from typing import Literal

from taskcast_core.config import option
from taskcast_core.values import frozen


@frozen
class ServerOptions:
    """The top-level keys of the server."""

    host: str = option("127.0.0.1", env=("TASKCAST_HOST", "BIND_ADDRESS"), help="address to listen on")
    port: int = option(3721, env=("TASKCAST_PORT", "PORT"), minimum=0, maximum=65_535, help="port to listen on")
    log_format: Literal["text", "json"] = option("text", env="TASKCAST_LOG_FORMAT", help="of the server's log")


@frozen
class LimitOptions:
    """The server's part of the section ``limits``; the engine's part bounds a single task.

    Rates and counts are per caller. Where authentication is off there are no callers, and those that are None here are
    not applied; with authentication None means the value in brackets.
    """

    max_body_bytes: int = option(10 << 20, minimum=1024, help="largest request body; streamed ones are not bounded")
    max_import_bytes: int = option(256 << 20, minimum=1024, help="largest body of an import")
    max_socket_message_bytes: int = option(1 << 20, minimum=1024, help="largest message on a worker's socket")
    max_batch_events: int = option(10_000, minimum=1, help="events of one publish")
    max_batch_tasks: int = option(1000, minimum=1, maximum=10_000, help="tasks of one batch")
    max_json_depth: int = option(128, minimum=1, maximum=200, help="nesting of params, results and event data")
    max_id_length: int = option(256, minimum=16, help="characters of ids, series ids and idempotency keys")
    max_type_length: int = option(256, minimum=1, help="characters of types and tags")
    max_tags: int = option(100, minimum=0, help="tags of a task")
    max_open_streams: int | None = option(None, minimum=1, help="open streams per caller (10,000)")
    max_live_tasks: int | None = option(
        None, minimum=1, help="tasks that a caller has created on this node and that have not ended (100,000)"
    )
    requests_per_minute: int | None = option(None, minimum=1, help="requests per caller (60,000)")
    burst: int | None = option(None, minimum=1, help="requests that may come at once (a tenth of those of a minute)")


@frozen
class CorsOptions:
    """Which pages of other origins may call the server from a browser; none by default."""

    origins: tuple[str, ...] = option((), help="allowed origins, or *")
    methods: tuple[str, ...] = option(("GET", "POST", "PATCH", "DELETE"), help="allowed methods")
    headers: tuple[str, ...] = option(("*",), help="allowed request headers")
    credentials: bool = option(default=False, help="whether cookies and credentials may be sent")
    max_age_seconds: int = option(600, minimum=0, help="how long a browser may remember the permission")


@frozen
class DocsOptions:
    """The API reference at ``/docs``."""

    enabled: bool = option(default=True, help="serve /docs and /openapi.json")

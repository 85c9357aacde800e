"""The options of the PostgreSQL store."""

from __future__ import annotations

import re
from typing import Any

from attrs import frozen

from taskcast_core.config.options import Expected, option

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def _schema_name(_instance: object, _attribute: object, value: Any) -> None:
    if not _SCHEMA.fullmatch(value):
        raise Expected("a lower-case SQL name")


@frozen
class PostgresOptions:
    """Where PostgreSQL is, and how long anything may take. ``url`` is all that libpq accepts, TLS settings included."""

    url: str | None = option(
        None, env="TASKCAST_POSTGRES_URL", secret=True, help="postgresql://user:password@host:port/database?sslmode=…"
    )
    schema: str = option("taskcast", validator=_schema_name, help="the schema that holds the tables")
    auto_migrate: bool = option(
        default=False, env="TASKCAST_AUTO_MIGRATE", help="bring the tables up to date at start; see `taskcast migrate`"
    )
    max_connections: int = option(
        10, env="TASKCAST_POSTGRES_MAX_CONNECTIONS", minimum=1, help="connections; further callers wait"
    )
    max_waiting: int = option(200, minimum=1, help="callers that may wait for a connection; then 503")
    connect_timeout_ms: int = option(5_000, minimum=1, help="for a connection to come up, or to become free")
    command_timeout_ms: int = option(30_000, minimum=1, help="for a call with all its statements; then it is cut off")

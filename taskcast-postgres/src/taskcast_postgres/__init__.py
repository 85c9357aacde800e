"""PostgreSQL for Taskcast: the long-term archive of tasks and events."""

from __future__ import annotations

from attrs import evolve

from taskcast_postgres.database import Pool
from taskcast_postgres.layout import LayoutError, migrate
from taskcast_postgres.options import PostgresOptions
from taskcast_postgres.store import PostgresLongTermStore

__all__ = ["LayoutError", "PostgresLongTermStore", "PostgresOptions", "create_postgres_adapter", "migrate"]


def create_postgres_adapter(where: str | Pool, options: PostgresOptions | None = None) -> PostgresLongTermStore:
    """A long-term store, to be entered with ``async with``.

    Args:
        where: a URL; or an open ``psycopg_pool.AsyncConnectionPool`` of the caller's, which is used and never closed.
        options: everything but the URL.
    """
    options = options or PostgresOptions()
    if isinstance(where, str):
        return PostgresLongTermStore(evolve(options, url=where))
    return PostgresLongTermStore(options, where)

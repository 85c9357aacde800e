"""The store for programs that assemble their engine by hand."""

from __future__ import annotations

from attrs import evolve

from taskcast_postgres.database import Pool
from taskcast_postgres.options import PostgresOptions
from taskcast_postgres.store import PostgresLongTermStore


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

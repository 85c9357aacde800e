"""The plugin: the long-term store ``postgres``, and its migrations for ``taskcast migrate``."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

from taskcast_core.errors import TaskcastError
from taskcast_core.hookspecs import hookimpl
from taskcast_core.registry import Registry
from taskcast_postgres.options import PostgresOptions

if TYPE_CHECKING:
    from taskcast_postgres.layout import Migrations
    from taskcast_postgres.store import PostgresLongTermStore


@hookimpl
def taskcast_long_term_stores(registry: Registry) -> None:
    """``postgres``."""
    registry.add(
        "postgres", "taskcast_postgres.plugin:open_store", options=PostgresOptions, chosen_by="TASKCAST_POSTGRES_URL"
    )


@asynccontextmanager
async def open_store(options: PostgresOptions) -> AsyncIterator[PostgresLongTermStore]:
    """The store as the configuration describes it; says on standard error what ``auto_migrate`` does."""
    from taskcast_postgres.layout import steps
    from taskcast_postgres.store import PostgresLongTermStore

    store = PostgresLongTermStore(options)
    if options.auto_migrate:
        _tell(f"TASKCAST_AUTO_MIGRATE enabled — running Postgres migrations on {address(options.url or '')}")
    try:
        await store.__aenter__()
    except TaskcastError as error:
        if options.auto_migrate:
            _tell(f"Auto-migration failed: {error}")
        raise
    if options.auto_migrate:
        if done := store.migrated:
            _tell(f"Applied {len(done)} new migration(s): {', '.join(done)}")
        else:
            _tell(f"Database schema up to date ({len(steps())} migration(s) already applied)")
    async with _entered(store):
        yield store


@asynccontextmanager
async def _entered(store: PostgresLongTermStore) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await store.__aexit__(None, None, None)


def open_migrations(options: PostgresOptions) -> AbstractAsyncContextManager[Migrations]:
    """What ``taskcast migrate`` works with."""
    from taskcast_postgres.layout import opened_migrations

    return opened_migrations(options)


def address(url: str) -> str:
    """Where a URL leads, without credentials."""
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(url)
    host, port, name = parts.get("host", "localhost"), parts.get("port"), parts.get("dbname", "")
    return f"postgresql://{host}{f':{port}' if port else ''}/{name}"


def _tell(text: str) -> None:
    sys.stderr.write(f"[taskcast] {text}\n")

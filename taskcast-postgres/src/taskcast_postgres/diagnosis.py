"""What a PostgreSQL database is like, for ``taskcast doctor``: its tables' layout, and the room for connections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskcast_postgres.database import Database
from taskcast_postgres.layout import LayoutError, Migrations, steps


async def diagnose(database: Database, migrations: Migrations) -> Mapping[str, Any]:
    """Facts of the database.

    Raises:
        StoreUnavailable: it does not answer.
    """
    async with database.session() as session:
        row = await session.row(
            "SELECT current_setting('server_version'), current_setting('max_connections')::int,"
            " current_setting('synchronous_commit'), current_setting('fsync'),"
            " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"
        )
    assert row is not None
    version, most, synchronous, fsync, used = row
    try:
        pending, changed = list(await migrations.pending()), None
    except LayoutError as error:
        pending, changed = [], str(error)
    return {
        "kind": "postgres",
        "version": version,
        "migrations": {"applied": len(steps()) - len(pending), "pending": pending, "problem": changed},
        "pool": {"most": database.options.max_connections, "ofServer": most, "usedOfServer": used},
        "synchronousCommit": synchronous,
        "fsync": fsync,
    }

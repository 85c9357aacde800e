"""How child processes open the stores that survive them."""

from __future__ import annotations

from pathlib import Path

from taskcast_core.builtin.sqlite.options import SqliteOptions
from taskcast_core.builtin.sqlite.store import SqliteShortTermStore


def open_sqlite(path: str) -> SqliteShortTermStore:
    """The SQLite store at a path, with its default durability (FULL)."""
    return SqliteShortTermStore(SqliteOptions(path=Path(path)))

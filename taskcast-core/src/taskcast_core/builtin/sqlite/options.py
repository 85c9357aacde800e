"""The options of the SQLite store."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from taskcast_core.config.options import option
from taskcast_core.values import frozen


@frozen
class SqliteOptions:
    """Where the store's file is, how safe a commit is, and the bounds of what the store keeps in memory."""

    path: Path = option(
        Path("taskcast.db"),
        env="TASKCAST_SQLITE_PATH",
        help="the file; a relative path starts at the configuration file",
    )
    synchronous: Literal["FULL", "NORMAL", "OFF"] = option(
        "FULL",
        help="what a commit survives: FULL a power cut; NORMAL and OFF a kill (a power cut may damage the file of OFF)",
    )
    cache_bytes: int = option(32 << 20, minimum=1 << 20, help="pages of the file that the writer keeps in memory")
    log_cache_bytes: int = option(64 << 20, minimum=0, help="states of recently written tasks, about this many bytes")
    record_cache_bytes: int = option(16 << 20, minimum=0, help="recently written records that are read without I/O")
    readers: int = option(3, minimum=1, maximum=64, help="threads that read")
    queue_size: int = option(1_000, minimum=1, help="operations in flight; further callers wait")
    wal_bytes: int = option(16 << 20, minimum=1 << 16, help="checkpoint when the write-ahead log passes this size")
    close_timeout_ms: int = option(10_000, minimum=1, help="how long closing waits for the writer to finish")

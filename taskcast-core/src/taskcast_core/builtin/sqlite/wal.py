"""Keeping the write-ahead log bounded without making commits wait.

A thread copies the log's pages into the file (a passive checkpoint) whenever the log passes its size. As new commits
arrive meanwhile, it never quite catches up under load: so the writer itself copies the little that is left, between two
groups, whereupon the log begins anew at its start. Only when the log has several times its size nevertheless (a slow
disk, readers that hold on to old pages) does the writer wait, each time for a bounded while.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from pathlib import Path

from taskcast_core.builtin.sqlite.options import SqliteOptions
from taskcast_core.builtin.sqlite.schema import open_writer_of_pages

_log = logging.getLogger(__name__)

CEILING = 4
"""The writer waits when the log is this many times its size."""
_WAIT_FOR_COPY_S = 5.0
_WAIT_FOR_READERS_MS = 1_000


class WalKeeper:
    """``noticed`` belongs to the writer thread; the copying is done in a thread of its own."""

    def __init__(self, path: Path, options: SqliteOptions) -> None:
        self._limit = options.wal_bytes
        self._wal = path.with_name(path.name + "-wal")
        self._asked = threading.Event()
        self._copied = threading.Event()
        self._is_copying = False
        self._is_closing = False
        self._finished_at = 0
        self._connection = open_writer_of_pages(path, options)
        self._thread = threading.Thread(target=self._run, name="taskcast-sqlite-checkpoints", daemon=True)
        self._thread.start()

    def noticed(self, connection: sqlite3.Connection) -> None:
        """A group has been committed: see to the log's size."""
        size = self.size()
        if size <= self._limit:
            self._finished_at = 0
        elif self._is_copying:
            is_late = size > CEILING * self._limit
            if self._copied.wait(_WAIT_FOR_COPY_S if is_late else 0):
                self._finish(connection, "RESTART" if is_late else "PASSIVE")
        elif size > self._finished_at + self._limit // 8:
            self._is_copying = True
            self._asked.set()

    def _finish(self, connection: sqlite3.Connection, mode: str) -> None:
        """Copy what came while the thread was copying; unless readers need the log, the next commit restarts it."""
        self._copied.clear()
        self._is_copying = False
        connection.execute(f"PRAGMA busy_timeout = {_WAIT_FOR_READERS_MS}")
        _checkpoint(connection, mode)
        self._finished_at = self.size()

    def size(self) -> int:
        """Bytes of the write-ahead log's file."""
        try:
            return os.stat(self._wal).st_size  # noqa: PTH116 - once per commit, and pathlib takes three times as long
        except FileNotFoundError:
            return 0

    def _run(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            if self._is_closing:
                return
            _checkpoint(self._connection, "PASSIVE")
            self._copied.set()

    def close(self, timeout: float) -> None:
        """End the thread, waiting at most ``timeout`` seconds."""
        self._is_closing = True
        self._asked.set()
        self._connection.interrupt()
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self._connection.close()


def _checkpoint(connection: sqlite3.Connection, mode: str) -> None:
    try:
        connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    except sqlite3.OperationalError as error:
        # Nothing is lost: the pages stay in the log, and the next attempt copies them.
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:  # which is how it is told to end
            _log.warning("sqlite: checkpoint failed: %s", error)

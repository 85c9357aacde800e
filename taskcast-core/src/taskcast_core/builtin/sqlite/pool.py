"""Threads that read, each with a connection of its own; so a read never waits for a write, nor for the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from taskcast_core.builtin.sqlite.lock import StoreFileError
from taskcast_core.builtin.sqlite.rows import translated
from taskcast_core.builtin.sqlite.schema import backup, open_reader
from taskcast_core.errors import StoreUnavailable

T = TypeVar("T")

_WAITING_PER_THREAD = 16


class ReaderPool:
    """A fixed number of connections; a bounded number of reads in flight, further callers wait."""

    def __init__(self, path: Path, threads: int) -> None:
        self._free: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._connections: list[sqlite3.Connection] = []
        self._room = asyncio.Semaphore(threads * _WAITING_PER_THREAD)
        self._loop = asyncio.get_running_loop()
        self._is_closed = False
        self._threads = ThreadPoolExecutor(threads, "taskcast-sqlite-reader")
        for _ in range(threads):
            connection = open_reader(path)
            self._connections.append(connection)
            self._free.put(connection)

    async def run(self, read: Callable[..., T], *arguments: Any) -> T:
        """``read(connection, *arguments)`` on one committed state: all that has been acknowledged is in it.

        Raises:
            StoreUnavailable: the file could not be read.
        """
        async with self._room:
            if self._is_closed:
                raise StoreUnavailable("sqlite", "closed")
            return await self._loop.run_in_executor(self._threads, self._read, read, arguments)

    async def back_up(self, path: Path, source: Path) -> None:
        """Copy one committed state into a file.

        Raises:
            StoreFileError: it cannot be written.
        """
        await self._loop.run_in_executor(self._threads, self._back_up, path, source)

    def _back_up(self, path: Path, source: Path) -> None:
        if path.resolve() == source:
            raise StoreFileError(path, "a store cannot be backed up onto itself")
        connection = self._free.get()
        try:
            backup(connection, path)
        except (sqlite3.Error, OSError) as error:
            raise StoreFileError(path, f"the backup failed: {error}") from error
        finally:
            self._free.put(connection)

    def _read(self, read: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        connection = self._free.get()
        try:
            connection.execute("BEGIN")
            try:
                return read(connection, *arguments)
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise translated(error) from error
        finally:
            self._free.put(connection)

    async def close(self) -> None:
        """Let running reads end at once, and close the connections."""
        self._is_closed = True
        for connection in self._connections:
            connection.interrupt()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        for connection in self._connections:
            connection.close()

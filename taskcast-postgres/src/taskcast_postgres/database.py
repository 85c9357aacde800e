"""Connections, and what is said over them: bounded waits, and errors translated in one place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from taskcast_core.errors import ConfigError, StoreUnavailable
from taskcast_postgres.failures import TROUBLE, is_outage, kind_of, unavailable
from taskcast_postgres.health import DEPENDENCY, Health
from taskcast_postgres.options import PostgresOptions

Row = tuple[Any, ...]
Connection = psycopg.AsyncConnection[Any]
Pool = AsyncConnectionPool[Any]

DEFAULT_SCHEMA = "taskcast"
"""What the tables are called by in the statements of this package."""

_BY_KEY = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"
"""All that is asked of one log goes by its primary keys. The planner does not see that while a table grows faster than
its statistics, and would rather sort a whole log than walk along the index."""

_GIVE_UP_S = 3.0
"""The pool's own attempts to connect end after so long; the next call begins anew, so recovery is not slept over."""


@lru_cache(maxsize=1024)
def in_schema(statement: str, schema: str) -> bytes:
    """A statement as it is sent."""
    return statement.replace(f"{DEFAULT_SCHEMA}.", f'"{schema}".').encode()


class Session:
    """One connection for a while. Values are bound; statements are written for the default schema."""

    def __init__(self, connection: Connection, schema: str) -> None:
        self._schema = schema
        self._cursor = connection.cursor(row_factory=tuple_row)

    async def rows(self, statement: str, *values: Any) -> list[Row]:
        """All rows of a result."""
        await self._cursor.execute(in_schema(statement, self._schema), values)
        return await self._cursor.fetchall()

    async def row(self, statement: str, *values: Any) -> Row | None:
        """The first row of a result, if there is one."""
        await self._cursor.execute(in_schema(statement, self._schema), values)
        return await self._cursor.fetchone()

    async def run(self, statement: str, *values: Any) -> int:
        """Execute; how many rows it was about."""
        await self._cursor.execute(in_schema(statement, self._schema), values)
        return self._cursor.rowcount

    async def script(self, text: str) -> None:
        """Several statements without values."""
        await self._cursor.execute(in_schema(text, self._schema))

    async def columns(self, statement: str, rows: Sequence[Row]) -> None:
        """Execute once for all rows: each value of the statement is an array, a column of theirs."""
        if rows:
            await self.run(statement, *map(list, zip(*rows, strict=True)))

    async def many(self, statement: str, rows: Sequence[Row]) -> None:
        """Execute once per row, without waiting in between."""
        if rows:
            await self._cursor.executemany(in_schema(statement, self._schema), rows)

    async def copy(self, statement: str, lines: Iterable[bytes]) -> None:
        """COPY … FROM STDIN, in text format."""
        async with self._cursor.copy(in_schema(statement, self._schema)) as copy:
            for block in lines:
                await copy.write(block)

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Statements within do not wait for each other; what goes wrong is raised at the end."""
        async with self._cursor.connection.pipeline():
            yield

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """What goes wrong within is undone; the transaction goes on."""
        async with self._cursor.connection.transaction():
            yield


class Database:
    """A bounded pool of connections, ours or the caller's."""

    def __init__(self, options: PostgresOptions, pool: Pool | None = None) -> None:
        self.options = options
        self.health = Health()
        self._pool = pool
        self._owns_pool = pool is None
        self._last_error: BaseException | None = None
        self._is_probing = False
        self._in_use = 0
        self._attempt_failed = asyncio.Event()

    async def open(self) -> None:
        """Connect once.

        Raises:
            ConfigError: no address, or a database that is not in UTF-8. StoreUnavailable: it does not answer.
        """
        if self._pool is None:
            self._pool = self._new_pool()
            await self._pool.open(wait=False)
        try:
            async with self.session() as session:
                row = await session.row("SELECT current_setting('server_encoding'), current_setting('client_encoding')")
        except BaseException:
            await self.close()
            raise
        if row != ("UTF8", "UTF8"):
            await self.close()
            raise ConfigError("the PostgreSQL database and its connections have to be in the encoding UTF8")

    async def close(self) -> None:
        """Close the pool, if it is ours."""
        if self._owns_pool and self._pool is not None:
            pool, self._pool = self._pool, None
            await pool.close(timeout=2)

    def _new_pool(self) -> Pool:
        options = self.options
        if not options.url:
            raise ConfigError(
                "configured PostgreSQL long-term store requires TASKCAST_POSTGRES_URL or adapters.longTermStore.url"
            )
        patience_s = options.connect_timeout_ms / 1000
        return AsyncConnectionPool(
            options.url,
            connection_class=self._recording_connection(),
            kwargs={
                "autocommit": True,
                "connect_timeout": max(2, round(patience_s)),  # libpq knows whole seconds, and no less than two
                "client_encoding": "utf8",
                "application_name": "taskcast",
                "keepalives_idle": 15,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": options.command_timeout_ms,
            },
            min_size=min(1, options.max_connections),
            max_size=options.max_connections,
            max_waiting=options.max_waiting,
            timeout=patience_s,
            reconnect_timeout=_GIVE_UP_S,
            name="taskcast-postgres",
            open=False,
        )

    def _recording_connection(self) -> type[Connection]:
        """The pool tries to connect in the background and tells nobody why it cannot."""
        database = self

        class Recording(psycopg.AsyncConnection[Any]):
            @classmethod
            async def connect(cls, conninfo: str = "", **arguments: Any) -> Any:
                try:
                    connection = await super().connect(conninfo, **arguments)
                except TROUBLE as error:
                    database._last_error = error
                    database._attempt_failed.set()
                    raise
                database._last_error = None
                database._attempt_failed.clear()
                return connection

        return Recording

    # ── Sessions ──────────────────────────────────────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def session(self, limit_ms: int | None = None) -> AsyncIterator[Session]:
        """A connection on which every statement is a transaction; cut off after a while, by default the options'.

        While PostgreSQL is known to be away, one caller at a time finds out whether it is back; the others are told at
        once, so that nobody queues up behind an outage.

        Raises:
            StoreUnavailable: whatever the driver raises within, with its kind.
        """
        if self._pool is None:
            raise StoreUnavailable(DEPENDENCY, "connection_closed")
        is_probe = self.health.attempt > 0
        if is_probe and self._is_probing:
            raise StoreUnavailable(DEPENDENCY, self.health.error_kind or "unavailable")
        self._is_probing = self._is_probing or is_probe
        try:
            async with self._connected(self._pool, limit_ms or self.options.command_timeout_ms) as connection:
                yield Session(connection, self.options.schema)
        except TROUBLE as error:
            raise self._translated(error) from error
        finally:
            if is_probe:
                self._is_probing = False

    @asynccontextmanager
    async def transaction(self, limit_ms: int | None = None) -> AsyncIterator[Session]:
        """All of it or none of it. Raises as `session` does."""
        async with self.session(limit_ms) as session:
            await session.script("BEGIN;" + _BY_KEY)
            try:
                yield session
            except BaseException:
                await session.script("ROLLBACK")
                raise
            await session.script("COMMIT")

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Session]:
        """Everything is read as of one moment. Raises as `session` does."""
        async with self.session() as session:
            await session.script("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;" + _BY_KEY)
            try:
                yield session
            finally:
                await session.script("ROLLBACK")

    @asynccontextmanager
    async def _connected(self, pool: Pool, limit_ms: int) -> AsyncIterator[Connection]:
        connection = await self._take(pool)
        self._in_use += 1
        try:
            has_autocommit = connection.autocommit
            if not has_autocommit:
                await connection.set_autocommit(True)
            cut = asyncio.get_running_loop().call_later(limit_ms / 1000, _sever, connection.pgconn.socket)
            try:
                yield connection
            finally:
                cut.cancel()
                if not has_autocommit and not connection.closed:
                    await connection.rollback()
                    await connection.set_autocommit(False)
            self.health.is_back()
        finally:
            self._in_use -= 1
            await pool.putconn(connection)

    async def _take(self, pool: Pool) -> Connection:
        """A connection that works: those that died while nobody used them are dropped on the way."""
        for _ in range(pool.max_size + 1):
            connection = await self._get(pool)
            try:
                if _has_news(connection):
                    await connection.execute("")
            except psycopg.OperationalError:
                await pool.putconn(connection)
            except BaseException:
                await pool.putconn(connection)
                raise
            else:
                return connection
        raise psycopg.OperationalError("the connection is closed")

    async def _get(self, pool: Pool) -> Connection:
        """A connection from the pool. While there is none at all, an attempt that fails is not waited out."""
        limit_s = self.options.connect_timeout_ms / 1000
        if pool.get_stats()["pool_available"]:
            return await pool.getconn(timeout=limit_s)  # type: ignore[no-any-return]
        self._attempt_failed.clear()
        getting = asyncio.ensure_future(pool.getconn(timeout=limit_s))
        failing = asyncio.ensure_future(self._attempt_failed.wait())
        try:
            await asyncio.wait((getting, failing), return_when=asyncio.FIRST_COMPLETED)
            if getting.done() or self._in_use:
                return await getting  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            await _give_back(pool, getting)
            raise
        finally:
            failing.cancel()
        await _give_back(pool, getting)
        raise self._last_error or psycopg.OperationalError("the connection is lost")

    def _translated(self, error: BaseException) -> StoreUnavailable:
        kind = kind_of(error)
        away = is_outage(error)
        if isinstance(error, PoolTimeout) and self._owns_pool:
            # Either no connection comes up, or all are in use.
            away = self._last_error is not None
            kind = kind_of(self._last_error) if self._last_error is not None else "overloaded"
        if away:
            self.health.has_failed(kind)
        return unavailable(error, kind)


async def _give_back(pool: Pool, getting: asyncio.Future[Connection]) -> None:
    """Nobody waits for this connection any more; it may have come at the last moment."""
    getting.cancel()
    (found,) = await asyncio.gather(getting, return_exceptions=True)
    if isinstance(found, psycopg.AsyncConnection):
        await pool.putconn(found)


def _has_news(connection: Connection) -> bool:
    """Whether the server has said something, or hung up, since the connection was last used."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))


def _sever(descriptor: int) -> None:
    """End a call that takes too long from below: whoever waits for the server then sees a closed connection."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as line:
        line.shutdown(socket.SHUT_RDWR)

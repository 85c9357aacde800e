"""Connections: bounded waits, translated errors, health, and a pool of the caller's own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.contracts import ArchiveBatch
from taskcast_core.errors import ConfigError, StoreUnavailable
from taskcast_core.testing.making import created, delta, fresh_id, message
from taskcast_core.testing.making import whole_log as read_all
from taskcast_core.testing.portrait import portrait
from taskcast_postgres import PostgresLongTermStore, PostgresOptions, create_postgres_adapter, migrate
from tests.fixtures.eventually import eventually
from tests.fixtures.postgres_server import PostgresServer
from tests.fixtures.proxy import HOST, FaultProxy

pytestmark = pytest.mark.anyio

PROMPT_S = 3.0


def options(url: str, **others: int) -> PostgresOptions:
    return PostgresOptions(url=url, auto_migrate=True, **{"connect_timeout_ms": 2_000, **others})  # type: ignore[arg-type]


async def a_batch(hot: MemoryShortTermStore) -> ArchiveBatch:
    stored = await created(hot, message(), delta("s", "a"))
    items = tuple(await read_all(hot, stored.task.id))
    return ArchiveBatch(stored.task.id, stored.record, stored.rev, stored.segments, items, ())


async def answers(store: PostgresLongTermStore) -> bool:
    try:
        await store.check()
    except StoreUnavailable:
        return False
    return True


@pytest.fixture
async def proxied(
    postgres_url: str, fault_proxy: Callable[[int], Awaitable[FaultProxy]]
) -> AsyncIterator[tuple[PostgresLongTermStore, FaultProxy]]:
    """A store whose line to the server can be tampered with."""
    port = int(postgres_url.rsplit(":", 1)[1].split("/")[0])
    proxy = await fault_proxy(port)
    url = postgres_url.replace(f":{port}/", f":{proxy.port}/")
    async with PostgresLongTermStore(options(url, command_timeout_ms=1_000, max_connections=3)) as store:
        yield store, proxy


async def test_a_server_that_stops_and_comes_back(
    own_postgres_server: PostgresServer, hot: MemoryShortTermStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "taskcast_postgres.health")
    async with PostgresLongTermStore(options(own_postgres_server.create_database())) as store:
        batch = await a_batch(hot)
        await store.write([batch])
        assert store.health.is_healthy
        await asyncio.to_thread(own_postgres_server.stop)
        for verb in (store.get(fresh_id()), store.write([batch]), store.read(batch.task_id)):
            with pytest.raises(StoreUnavailable) as raised:
                await verb
            assert raised.value.dependency == "postgres" and raised.value.retryable
        assert store.health.state == "reconnecting"
        (ready,) = store.dependency_checks().values()
        with pytest.raises(StoreUnavailable):
            await ready()
        assert store.health.error_kind in ("connection_refused", "unavailable", "connection_reset")
        await asyncio.to_thread(own_postgres_server.start)
        await eventually(lambda: answers(store))
        assert store.health.is_healthy
        await ready()
        assert (await store.write([batch]))[0].last_index == 1
    changes = [record.getMessage() for record in caplog.records if "dependency_state_change" in record.getMessage()]
    assert "to=healthy" in changes[0] and "to=reconnecting" in changes[1] and "downtimeMs" in changes[-1]


async def test_nobody_queues_up_behind_an_outage(proxied: tuple[PostgresLongTermStore, FaultProxy]) -> None:
    store, proxy = proxied
    await proxy.refuse()
    proxy.cut()
    assert not await answers(store)
    began = time.monotonic()
    found = await asyncio.gather(*(store.get("x") for _ in range(300)), return_exceptions=True)
    assert all(isinstance(each, StoreUnavailable) for each in found)
    assert time.monotonic() - began < 2 * PROMPT_S, "one of them tried, and the others were told"
    await proxy.heal()
    await eventually(lambda: answers(store))
    assert await store.get("x") is None


async def test_connections_that_died_while_idle_cost_no_call(
    proxied: tuple[PostgresLongTermStore, FaultProxy], hot: MemoryShortTermStore
) -> None:
    store, proxy = proxied
    await asyncio.gather(*(store.get("x") for _ in range(20)))
    proxy.cut()
    await eventually(lambda: proxy.open_connections == 0)
    assert (await store.write([await a_batch(hot)]))[0].last_index == 1


async def test_a_silent_server_is_cut_off(proxied: tuple[PostgresLongTermStore, FaultProxy]) -> None:
    store, proxy = proxied
    proxy.blackhole()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await store.get("x")
    assert time.monotonic() - began < 1 + PROMPT_S
    await proxy.heal()
    await eventually(lambda: answers(store))


async def test_more_callers_than_connections(postgres_url: str) -> None:
    async with PostgresLongTermStore(options(postgres_url, max_connections=2, max_waiting=1_000)) as store:
        assert await asyncio.gather(*(store.get(fresh_id()) for _ in range(100))) == [None] * 100
    async with PostgresLongTermStore(options(postgres_url, max_connections=1, max_waiting=2)) as store:
        found = await asyncio.gather(*(store.get("x") for _ in range(50)), return_exceptions=True)
        refused = [each for each in found if isinstance(each, StoreUnavailable)]
        assert {error.kind for error in refused} == {"overloaded"}
        assert store.health.is_healthy, "that is no outage"
        assert await store.get("x") is None


async def test_a_statement_that_takes_too_long(postgres_url: str) -> None:
    async with PostgresLongTermStore(options(postgres_url, command_timeout_ms=300)) as store:
        with pytest.raises(StoreUnavailable):
            async with store.database.session() as session:
                await session.row("SELECT pg_sleep(30)")
        await eventually(lambda: answers(store))


async def test_a_caller_that_is_cancelled(postgres_url: str, hot: MemoryShortTermStore) -> None:
    async with PostgresLongTermStore(options(postgres_url, max_connections=1)) as store:
        batch = await a_batch(hot)
        for n in range(20):
            task = asyncio.create_task(store.write([batch]))
            await asyncio.sleep(n / 2_000)  # a different point each time
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await store.write([batch])
        assert await portrait(store, batch.task_id) == await portrait(hot, batch.task_id)


async def test_the_callers_own_pool(postgres_url: str, hot: MemoryShortTermStore) -> None:
    await migrate(postgres_url)
    pool = AsyncConnectionPool(postgres_url, kwargs={"row_factory": dict_row}, min_size=1, max_size=2, open=False)
    async with pool:
        async with create_postgres_adapter(pool) as store:
            batch = await a_batch(hot)
            await store.write([batch])
            assert await portrait(store, batch.task_id) == await portrait(hot, batch.task_id)
        async with pool.connection() as connection:
            assert connection.autocommit is False
            cursor = await connection.execute("SELECT count(*) AS n FROM taskcast.tasks")
            assert str(await cursor.fetchone()) == "{'n': 1}"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("postgresql://postgres@127.0.0.1:1/none", "connection_refused"),
        ("postgresql://postgres@no-such-host.invalid/none", "dns"),
    ],
)
async def test_why_a_server_is_away(url: str, kind: str) -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as raised:
        async with PostgresLongTermStore(options(url, connect_timeout_ms=60_000)):
            pass
    assert raised.value.kind == kind
    assert time.monotonic() - began < 30, "an attempt that has failed is not waited out"


async def test_a_missing_database(postgres_server: PostgresServer) -> None:
    with pytest.raises(StoreUnavailable) as raised:
        async with PostgresLongTermStore(options(postgres_server.database_url("nowhere"))):
            pass
    assert raised.value.kind == "unavailable"


async def test_a_database_in_another_encoding(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    with pytest.raises(ConfigError, match="UTF8"):
        async with PostgresLongTermStore(options(f"postgresql://postgres@{HOST}:{postgres_server.port}/latin")):
            pass


async def test_no_address() -> None:
    with pytest.raises(ConfigError, match="TASKCAST_POSTGRES_URL"):
        async with PostgresLongTermStore(PostgresOptions()):
            pass

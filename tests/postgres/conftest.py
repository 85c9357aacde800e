"""Stores on databases of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_postgres import PostgresLongTermStore, PostgresOptions
from tests.core.stores import STORES
from tests.fixtures.redis_server import RedisServer
from tests.postgres.tiers import PostgresTiers, open_tiers


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresLongTermStore]:
    """An open, empty store."""
    options = PostgresOptions(url=postgres_url, auto_migrate=True, connect_timeout_ms=20_000)
    async with PostgresLongTermStore(options) as store:
        yield store


@pytest.fixture
async def hot() -> AsyncIterator[MemoryShortTermStore]:
    """Where tasks are made."""
    async with MemoryShortTermStore() as hot:
        yield hot


@pytest.fixture(params=[*STORES, "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    """Where hot tasks are; a Redis is named by its URL."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return server.url
    return str(request.param)


@pytest.fixture
async def tiers(kind: str, tmp_path: Path, postgres_url: str) -> AsyncIterator[PostgresTiers]:
    """An engine on a hot store of each kind, and PostgreSQL."""
    async with open_tiers(kind, tmp_path, postgres_url) as tiers:
        yield tiers

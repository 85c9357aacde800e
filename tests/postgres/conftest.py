"""Stores on databases of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_postgres import PostgresLongTermStore, PostgresOptions


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresLongTermStore]:
    """An open, empty store."""
    async with PostgresLongTermStore(PostgresOptions(url=postgres_url, auto_migrate=True)) as store:
        yield store


@pytest.fixture
async def hot() -> AsyncIterator[MemoryShortTermStore]:
    """Where tasks are made."""
    async with MemoryShortTermStore() as hot:
        yield hot

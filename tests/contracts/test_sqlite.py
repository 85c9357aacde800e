"""The SQLite store, against the contract kit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskcast_core.builtin.sqlite.options import SqliteOptions
from taskcast_core.builtin.sqlite.store import SqliteShortTermStore
from taskcast_core.testing import (
    ColdContract,
    DeadlinesContract,
    DurableContract,
    FollowersContract,
    ListingContract,
    ManualClock,
    OpenSpec,
    TaskLogContract,
    WorkersContract,
)
from tests.fixtures.scale import Scale


class TestSqliteShortTermStore(
    TaskLogContract, ListingContract, DeadlinesContract, FollowersContract, ColdContract, WorkersContract
):
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def store(self, clock: ManualClock, tmp_path: Path) -> AsyncIterator[SqliteShortTermStore]:
        async with SqliteShortTermStore(SqliteOptions(path=tmp_path / "tasks.db"), clock) as store:
            yield store

    @pytest.fixture
    def examples(self, scale: Scale) -> int:
        return scale(15, 300)


def open_store(path: str) -> SqliteShortTermStore:
    """What the killed processes open."""
    return SqliteShortTermStore(SqliteOptions(path=Path(path)))


class TestSqliteIsDurable(DurableContract):
    @pytest.fixture
    def durable_store(self, tmp_path: Path) -> OpenSpec:
        return OpenSpec("tests.contracts.test_sqlite:open_store", {"path": str(tmp_path / "tasks.db")})

    @pytest.fixture
    def kills(self, scale: Scale) -> int:
        return scale(4, 100)

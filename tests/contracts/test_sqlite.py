"""The SQLite store, against the contract kit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskcast_core.builtin.sqlite import copies, counting, holes, pending
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
from taskcast_core.testing.model import ModelCases
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


class TestSqliteWithNarrowSpans(ModelCases):
    """Random histories are short: so checkpoints stand close, texts are joined early, and nothing stays in memory."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture(params=["remembering", "forgetting"])
    async def store(
        self, request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[SqliteShortTermStore]:
        for module in (counting, holes, pending, copies):
            monkeypatch.setattr(module, "SPAN", 3)
        monkeypatch.setattr(pending, "JOIN_AFTER", 2)
        size = 0 if request.param == "forgetting" else 1 << 20
        options = SqliteOptions(path=tmp_path / "tasks.db", log_cache_bytes=size, record_cache_bytes=size)
        async with SqliteShortTermStore(options, clock) as store:
            yield store

    @pytest.fixture
    def examples(self, scale: Scale) -> int:
        return scale(15, 500)


def open_store(path: str) -> SqliteShortTermStore:
    """What the killed processes open."""
    return SqliteShortTermStore(SqliteOptions(path=Path(path)))


class TestSqliteIsDurable(DurableContract):
    case_deadline_s = 3600.0  # a hundred kills take a while

    @pytest.fixture
    def durable_store(self, tmp_path: Path) -> OpenSpec:
        return OpenSpec("tests.contracts.test_sqlite:open_store", {"path": str(tmp_path / "tasks.db")})

    @pytest.fixture
    def kills(self, scale: Scale) -> int:
        return scale(4, 100)

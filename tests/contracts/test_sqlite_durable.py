"""The SQLite store, killed and reopened."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskcast_core.testing import DurableContract, OpenSpec
from tests.fixtures.scale import Scale


class TestSqliteDurability(DurableContract):
    @pytest.fixture
    def durable_store(self, tmp_path: Path) -> OpenSpec:
        return OpenSpec("tests.contracts.opening:open_sqlite", {"path": str(tmp_path / "tasks.db")})

    @pytest.fixture
    def kills(self, scale: Scale) -> int:
        return scale(3, 40)

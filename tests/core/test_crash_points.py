"""A process dies, or stalls, at any call of a release, a restore or the archiver: others go on from what it left.

With PostgreSQL and Redis, and with real processes: ``tests/postgres/test_crash_points.py``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskcast_core.builtin.memory_long_term import MemoryLongTermStore
from tests.core.crashing import SCENARIOS, stall_everywhere
from tests.core.stores import STORES, open_store
from tests.core.tiers import Tiers
from tests.fixtures.scale import Scale

pytestmark = pytest.mark.anyio


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def tiers(kind: str, tmp_path: Path) -> AsyncIterator[Tiers]:
    """The stores; every test makes engines of its own."""
    async with open_store(kind, tmp_path) as hot:
        yield Tiers(hot, MemoryLongTermStore())


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_process_dies(tiers: Tiers, kind: str, name: str, scale: Scale, *, after: bool) -> None:
    await SCENARIOS[name].run_all(tiers, after=after, stride=1 if kind == "memory" else scale(4, 1))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_one_node_stalls_in_a_restore_while_another_releases(
    tiers: Tiers, kind: str, scale: Scale, *, after: bool
) -> None:
    await stall_everywhere(tiers, after=after, stride=1 if kind == "memory" else scale(3, 1))

"""As ``tests/core/test_crash_points.py``, with PostgreSQL, with Redis, and with processes that are really killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.core.crashing import BY_HAND, SCENARIOS, everything, goes_on, stall_everywhere
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.scale import FULL_SCALE, Scale
from tests.postgres.tiers import PostgresTiers, open_tiers

pytestmark = pytest.mark.anyio


AFTER = [False, True] if FULL_SCALE else [None]
"""Whether a process dies after a call or before it; by turns where there is no time for both."""


@pytest.fixture(params=["sqlite", "redis"])
async def tiers(request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str) -> AsyncIterator[PostgresTiers]:
    """The stores; every test makes engines of its own."""
    kind = request.getfixturevalue("redis_server").url if request.param == "redis" else request.param
    async with open_tiers(kind, tmp_path, postgres_url, BY_HAND) as tiers:
        yield tiers


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_process_dies(tiers: PostgresTiers, name: str, scale: Scale, *, after: bool | None) -> None:
    scenario = SCENARIOS[name]
    await scenario.run_all(tiers, after=after, stride=scale(3 if scenario.settings is BY_HAND else 5, 1))


@pytest.mark.parametrize("after", AFTER)
async def test_one_node_stalls_in_a_restore_while_another_releases(
    tiers: PostgresTiers, scale: Scale, *, after: bool | None
) -> None:
    await stall_everywhere(tiers, after=after, stride=scale(3, 1))


CHILD = """
import asyncio, sys
from pathlib import Path
from tests.core.crashing import BY_HAND, SCENARIOS, Doom, doomed
from tests.postgres.tiers import open_tiers

async def main(redis_url, prefix, postgres_url, name, task_id, at, after):
    scenario = SCENARIOS[name]
    async with open_tiers(redis_url, Path(), postgres_url, BY_HAND, prefix) as tiers:
        doom = Doom(at=int(at), after=after == "after", is_real=True)
        async with doomed(tiers, doom, scenario.settings) as engine:
            await scenario.act(engine, task_id)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("name", ["release", "restore", "archive"])
async def test_sigkill(name: str, tmp_path: Path, postgres_url: str, redis_server: RedisServer, scale: Scale) -> None:
    scenario = SCENARIOS[name]
    middle = scenario.calls - 1
    points = [(middle, "after")] + [(at, when) for at in range(1, scale(0, middle) + 1) for when in ("before", "after")]
    prefix = f"t{os.urandom(4).hex()}"
    async with open_tiers(redis_server.url, tmp_path, postgres_url, BY_HAND, prefix) as tiers:
        for at, when in points:
            task_id = await scenario.prepare(tiers)
            was = await everything(tiers, task_id)
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", CHILD, redis_server.url, prefix, postgres_url, name, task_id, str(at), when
            )
            assert await asyncio.wait_for(child.wait(), 60) == -signal.SIGKILL
            await goes_on(tiers, task_id, was, added=scenario.added)

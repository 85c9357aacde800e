"""``taskcast rebuild`` after a FLUSHALL."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import redis

from taskcast_core.errors import TaskcastError
from taskcast_server.cli.output import CliError, OutputFormat
from taskcast_server.cli.rebuild import rebuild
from tests.core.tiers import chatty
from tests.fixtures.redis_server import RedisServer
from tests.postgres.tiers import open_tiers


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_live_tasks_come_back(
    own_redis_server: RedisServer,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    async def before() -> list[str]:
        async with open_tiers(own_redis_server.url, tmp_path, postgres_url, prefix="taskcast") as tiers:
            ids = [await chatty(tiers.engine, rounds=1) for _ in range(3)]
            for task_id in ids:
                await tiers.archived(task_id)
            await tiers.release(ids[2])
            return ids

    async def after(ids: list[str]) -> None:
        async with open_tiers(own_redis_server.url, tmp_path, postgres_url, prefix="taskcast") as tiers:
            for task_id in ids[:2]:
                assert (await tiers.existing(task_id)).epoch == 2
                assert (await tiers.engine.publish_event(task_id, type="log", data={})).index == 4
            assert await tiers.hot.get(ids[2]) is None

    ids = asyncio.run(before())
    with redis.Redis(port=own_redis_server.port) as client:
        client.flushall()
    monkeypatch.setenv("TASKCAST_REDIS_URL", own_redis_server.url)
    monkeypatch.setenv("TASKCAST_POSTGRES_URL", postgres_url)
    rebuild(output=OutputFormat.JSON)
    told = json.loads(capsys.readouterr().out)
    assert told == {"ok": True, "restored": 2, "there": 0, "released": 1, "busy": 0}
    rebuild()
    assert "Brought 0 task(s) back; 2 were there, 1 are released." in capsys.readouterr().out
    asyncio.run(after(ids))


def test_what_cannot_be_rebuilt_is_said(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="no long-term store"):
        rebuild(storage="sqlite", db_path=tmp_path / "t.db")
    with pytest.raises((CliError, TaskcastError), match="memory"):
        rebuild(storage="memory")

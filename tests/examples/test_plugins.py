"""The four small plugins keep the contracts that they are for, and are found by the names in the configuration."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from taskcast_core import Plugins, TaskEngine, load_config, open_engine
from taskcast_core.contracts import Connection
from taskcast_core.testing import AuthenticatorContract, BroadcastContract, LongTermStoreContract
from taskcast_core.testing.auth import PlainConnection
from tests.examples.loading import EXAMPLES, example
from tests.fixtures.eventually import eventually

pytestmark = pytest.mark.anyio

SMALL = sorted((EXAMPLES / "plugins").glob("*.py"))


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_it_is_tiny(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60


class TestUdpBroadcast(BroadcastContract):
    @pytest.fixture
    def broadcast(self, tmp_path: Path) -> Any:
        return example("plugins/udp_broadcast.py").UdpBroadcast(tmp_path)

    @pytest.fixture
    def open_again(self, tmp_path: Path) -> Any:
        def again() -> AbstractAsyncContextManager[Any]:
            return nullcontext(example("plugins/udp_broadcast.py").UdpBroadcast(tmp_path))

        return again


class TestFileArchive(LongTermStoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Any]:
        async with example("plugins/file_archive.py").FileArchive(tmp_path / "archive") as store:
            yield store
            kept = vars(store)
        async with example("plugins/file_archive.py").FileArchive(tmp_path / "archive") as again:
            for name in ("_tombstones", "_audit"):
                assert vars(again)[name] == kept[name]
            marks = [{task: one.watermark for task, one in each["_kept"].items()} for each in (kept, vars(again))]
            assert marks[0] == marks[1]


class TestProxyAuthenticator(AuthenticatorContract):
    @pytest.fixture
    def authenticator(self) -> Any:
        module = example("plugins/proxy_authenticator.py")
        return module.ProxyAuthenticator(module.ProxyOptions("s3cret", ("ada",)))

    @pytest.fixture
    def good_connection(self) -> Connection:
        return PlainConnection({"x-proxy-secret": "s3cret", "x-user": "ada"})

    @pytest.fixture
    def bad_connection(self) -> Connection:
        return PlainConnection({"x-proxy-secret": "guess", "x-user": "ada"})


CONFIG = """
adapters:
  broadcast: {provider: udp, folder: bells}
  longTermStore: {provider: file, path: archive}
"""


async def test_they_are_chosen_in_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "taskcast.config.yaml"
    file.write_text(CONFIG)
    (tmp_path / "bells").mkdir()
    extra = [example(f"plugins/{path.name}") for path in SMALL]
    monkeypatch.setattr(example("plugins/slow_tasks.py"), "LONG_MS", 0)

    async with open_engine(load_config(file), Plugins(extra)) as engine:
        done = await engine.create_task(type="build")
        await engine.transition_task(done.id, "running")
        await engine.transition_task(done.id, "completed")
        assert [event.type async for event in engine.subscribe(done.id)][-1] == "taskcast:status"
        failed = await engine.create_task(type="build")
        await engine.transition_task(failed.id, "running")
        await engine.transition_task(failed.id, "failed", error={"message": "no space left"})
        with caplog.at_level(logging.WARNING, "slow_tasks"):
            await eventually(
                lambda: "no space left" in caplog.text and f"{done.id} (build) was completed" in caplog.text
            )
        assert isinstance(engine, TaskEngine)
        await eventually(lambda: done.id in (tmp_path / "archive").read_text())

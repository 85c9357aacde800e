"""The plugin: chosen by the environment or the configuration, and what it says at start."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskcast_core.assembly import open_engine
from taskcast_core.config import load_config
from taskcast_core.errors import ConfigError
from taskcast_core.plugins import Plugins
from taskcast_postgres import LayoutError, PostgresLongTermStore, migrate
from taskcast_postgres.layout import steps
from taskcast_postgres.plugin import address
from tests.fixtures.eventually import eventually

pytestmark = pytest.mark.anyio

COUNT = len(steps())
NAMES = ", ".join(step.name for step in steps())


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def test_the_environment_chooses_it(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TASKCAST_POSTGRES_URL", postgres_url)
    monkeypatch.setenv("TASKCAST_POSTGRES_MAX_CONNECTIONS", "3")
    with pytest.raises(LayoutError, match="taskcast migrate"):
        async with open_engine():
            pass
    monkeypatch.setenv("TASKCAST_AUTO_MIGRATE", "yes")
    async with open_engine() as engine:
        store = engine.long_term_store
        assert isinstance(store, PostgresLongTermStore) and store.options.max_connections == 3
        task = await engine.create_task(type="x")

        async def is_archived() -> bool:
            return await store.get(task.id) is not None

        await eventually(is_archived)
    told = capsys.readouterr().err
    assert f"[taskcast] Applied {COUNT} new migration(s): {NAMES}\n" in told
    async with open_engine():
        pass
    told = capsys.readouterr().err
    where = address(postgres_url)
    assert told.startswith(f"[taskcast] TASKCAST_AUTO_MIGRATE enabled — running Postgres migrations on {where}\n")
    assert f"[taskcast] Database schema up to date ({COUNT} migration(s) already applied)\n" in told


async def test_the_configuration_chooses_it(postgres_url: str, empty_folder: Path) -> None:
    await migrate(postgres_url, schema="elsewhere")
    (empty_folder / "taskcast.config.yaml").write_text(
        "adapters:\n  longTermStore:\n    provider: postgres\n"
        f"    url: {postgres_url}\n    schema: elsewhere\n    commandTimeoutMs: 1234\n"
    )
    plugins = Plugins()
    config = load_config(plugins=plugins)
    selected = plugins.select("long_term_store", config)
    assert selected is not None and postgres_url not in repr(selected), "the URL is a secret"
    async with selected.open() as store:
        assert store.options.command_timeout_ms == 1234
        assert await store.get("nobody") is None


async def test_a_failing_migration_at_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TASKCAST_POSTGRES_URL", "postgresql://somebody:secret@127.0.0.1:1/none")
    monkeypatch.setenv("TASKCAST_AUTO_MIGRATE", "1")
    with pytest.raises(Exception, match="postgres unavailable"):
        async with open_engine():
            pass
    told = capsys.readouterr().err
    assert "[taskcast] Auto-migration failed: postgres unavailable (connection_refused)" in told
    assert "secret" not in told and "somebody" not in told


async def test_no_address(empty_folder: Path) -> None:
    (empty_folder / "taskcast.config.yaml").write_text("adapters: {longTermStore: {provider: postgres}}\n")
    with pytest.raises(ConfigError, match="requires TASKCAST_POSTGRES_URL or adapters"):
        async with open_engine():
            pass


def test_addresses_are_shown_without_credentials() -> None:
    assert address("postgresql://me:secret@db.example:5433/tasks?sslmode=require") == (
        "postgresql://db.example:5433/tasks"
    )
    assert address("host=db user=me password=secret dbname=tasks") == "postgresql://db/tasks"
    assert address("") == "postgresql://localhost/"

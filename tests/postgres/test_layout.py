"""Migrations: once each, in order, whoever starts at the same time, and never changed afterwards."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import psycopg
import pytest
from attrs import evolve

from taskcast_core.errors import StoreUnavailable
from taskcast_postgres import LayoutError, PostgresLongTermStore, PostgresOptions, create_postgres_adapter, migrate
from taskcast_postgres.database import Database
from taskcast_postgres.layout import Migrations, Step, opened_migrations, steps
from tests.fixtures.processes import free_port

pytestmark = pytest.mark.anyio

NAMES = [step.name for step in steps()]
STARTS = 10


def applied(url: str, schema: str = "taskcast") -> list[tuple[int, str]]:
    with psycopg.connect(url) as connection:
        return connection.execute(f"SELECT number, name FROM {schema}.migrations ORDER BY number").fetchall()


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT schemaname FROM pg_tables WHERE schemaname NOT LIKE 'pg_%'").fetchall()
    return {name for (name,) in rows} - {"information_schema"}


def test_steps_are_numbered_without_a_gap() -> None:
    assert [step.number for step in steps()] == list(range(1, len(steps()) + 1))
    assert all(step.requires <= step.number for step in steps())


async def test_a_dry_run_changes_nothing(postgres_url: str) -> None:
    assert list(await migrate(postgres_url, dry_run=True)) == NAMES
    assert tables(postgres_url) == set()


async def test_migrating_twice(postgres_url: str) -> None:
    assert list(await migrate(postgres_url)) == NAMES
    assert [name for _, name in applied(postgres_url)] == NAMES
    assert list(await migrate(postgres_url)) == []
    assert list(await migrate(postgres_url, dry_run=True)) == []


async def test_ten_processes_start_at_once(postgres_url: str) -> None:
    program = (
        "import asyncio, sys; from taskcast_postgres import migrate; print(len(asyncio.run(migrate(sys.argv[1]))))"
    )
    starts = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, postgres_url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        for _ in range(STARTS)
    ]
    ends = [await process.communicate() for process in starts]
    assert [process.returncode for process in starts] == [0] * STARTS, ends
    assert sum(int(out) for out, _ in ends) == len(NAMES), "each step was applied by exactly one of them"
    assert [name for _, name in applied(postgres_url)] == NAMES


async def test_a_changed_step_is_refused(postgres_url: str) -> None:
    await migrate(postgres_url)
    changed = [evolve(steps()[0], text=steps()[0].text + "-- a harmless remark\n"), *steps()[1:]]
    async with opened_migrations(PostgresOptions(url=postgres_url)) as opened:
        migrations = Migrations(opened._database, changed)
        for verb in (migrations.pending, migrations.apply, migrations.check):
            with pytest.raises(LayoutError, match=NAMES[0]):
                await verb()


async def test_a_failing_step_leaves_nothing_behind(postgres_url: str) -> None:
    number = len(steps()) + 1
    bad = Step(number, "bad", "CREATE TABLE taskcast.half (n INTEGER); SELECT 1 / 0;", 1)
    async with opened_migrations(PostgresOptions(url=postgres_url)) as opened:
        with pytest.raises(StoreUnavailable) as raised:
            await Migrations(opened._database, [*steps(), bad]).apply()
        assert "division by zero" in str(raised.value.__cause__)
        assert [name for _, name in applied(postgres_url)] == NAMES, "the steps before it stay"
        async with opened._database.session() as session:
            assert await session.row("SELECT to_regclass('taskcast.half')") == (None,)


async def test_missing_tables_are_one_clear_error(postgres_url: str) -> None:
    with pytest.raises(LayoutError, match="taskcast migrate"):
        async with PostgresLongTermStore(PostgresOptions(url=postgres_url)):
            pass


async def test_two_releases_side_by_side(postgres_url: str) -> None:
    """A newer release may have expanded the tables; it says when older ones cannot go on."""
    await migrate(postgres_url)
    database = Database(PostgresOptions(url=postgres_url))
    await database.open()
    number = len(steps()) + 1
    expands = Step(number, "expands", "ALTER TABLE taskcast.tasks ADD COLUMN later TEXT;", 1)
    await Migrations(database, [*steps(), expands]).apply()
    async with create_postgres_adapter(postgres_url) as old:
        assert await old.get("nobody") is None
    contracts = Step(number + 1, "contracts", "ALTER TABLE taskcast.tasks DROP COLUMN assign_mode;", number)
    await Migrations(database, [*steps(), expands, contracts]).apply()
    await database.close()
    with pytest.raises(LayoutError, match="upgrade"):
        async with create_postgres_adapter(postgres_url):
            pass


async def test_a_schema_of_its_own(postgres_url: str) -> None:
    await migrate(postgres_url, schema="another")
    assert tables(postgres_url) == {"another"}
    assert [name for _, name in applied(postgres_url, "another")] == NAMES


async def test_no_server() -> None:
    with pytest.raises(StoreUnavailable) as raised:
        await migrate(f"postgresql://postgres@127.0.0.1:{free_port()}/nothing")
    assert raised.value.kind == "connection_refused"


def command(*arguments: str, folder: Path) -> asyncio.Future[tuple[int, str]]:
    async def run() -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "from taskcast_server.cli.main import main; main()", *arguments,
            cwd=folder, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode()

    return asyncio.ensure_future(run())


async def test_the_command(postgres_url: str, tmp_path: Path) -> None:
    code, told = await command("migrate", "--url", postgres_url, "--dry-run", folder=tmp_path)
    assert code == 0 and NAMES[0] in told, "an address is enough"
    config = f"adapters: {{longTermStore: {{provider: postgres, url: '{postgres_url}'}}}}\n"
    (tmp_path / "taskcast.config.yaml").write_text(config)
    code, told = await command("migrate", "--dry-run", folder=tmp_path)
    assert code == 0 and NAMES[0] in told and tables(postgres_url) == set()
    code, told = await command("migrate", folder=tmp_path)
    assert code == 1 and tables(postgres_url) == set(), "nobody was there to agree"
    code, told = await command("migrate", "--yes", folder=tmp_path)
    assert code == 0 and f"Applied {len(NAMES)} migration(s) successfully." in told
    code, told = await command("migrate", folder=tmp_path)
    assert code == 0 and "Database is up to date." in told

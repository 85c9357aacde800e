"""`taskcast migrate` with a store that has migrations, and with one that has none."""

import io
import json
import sys
from collections.abc import Callable

import pytest

from taskcast_core.registry import Provider
from taskcast_core.selection import Selected
from taskcast_server.cli.migrate import apply_migrations, migrations_of
from taskcast_server.cli.output import CliError, OutputFormat

pytestmark = pytest.mark.anyio

HOME = "tests.server.cli_migrations"


def selected(names: list[str], module: str = HOME) -> Selected:
    provider = Provider("long-term store", "made-up", f"{module}:open_store", None, "made-up")
    return Selected("long_term_store", "made-up", provider, names)


@pytest.fixture
def applying(capsys: pytest.CaptureFixture[str]) -> Callable[..., object]:
    async def apply(names: list[str], *, assume_yes: bool, output: OutputFormat = OutputFormat.TEXT) -> str:
        opened = migrations_of(selected(names))
        assert opened is not None
        await apply_migrations(opened, assume_yes=assume_yes, output=output)
        return capsys.readouterr().out

    return apply


async def test_pending_steps_are_listed_and_applied(applying) -> None:
    names = ["001_first", "002_second"]
    assert await applying(names, assume_yes=True) == (
        "[taskcast] 2 pending migration(s):\n  001_first\n  002_second\n"
        "[taskcast] Applied 2 migration(s) successfully.\n"
    )
    assert await applying(names, assume_yes=True) == "[taskcast] Database is up to date.\n"


async def test_as_json(applying) -> None:
    text = await applying(["001_first"], assume_yes=True, output=OutputFormat.JSON)
    assert json.loads(text)["applied"] == ["001_first"]


async def test_without_a_terminal_it_wants_yes(applying, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    names = ["001_first"]
    with pytest.raises(CliError, match="--yes"):
        await applying(names, assume_yes=False)
    assert names == ["001_first"]


def test_a_store_without_migrations() -> None:
    assert migrations_of(selected([], "taskcast_core.builtin.plugin")) is None

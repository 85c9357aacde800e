"""Commands that other distributions bring along."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from taskcast_server.cli import extensions
from taskcast_server.cli.main import program_for
from taskcast_server.cli.output import CliError

COMMANDS = '''
import click

def greet(name: str, loudly: bool = False) -> None:
    """Greet somebody."""
    print(name.upper() if loudly else name)
    raise SystemExit(7)

def start() -> None:
    """Never seen."""

@click.command()
def ready() -> None:
    """Made with click."""

def numbers(values: complex) -> None:
    """What no command line can say."""

nothing = 5
'''
ENTRIES = {
    "greet": "greetings:greet", "start": "greetings:start", "nothing": "greetings:nothing", "gone": "not_there:x",
    "ready": "greetings:ready", "numbers": "greetings:numbers",
}  # fmt: skip


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution with commands, good ones and bad ones."""
    (tmp_path / "greetings.py").write_text(COMMANDS)
    for name in ("greetings", "zzz"):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = "\n".join(f"{name} = {value}" for name, value in ENTRIES.items())
    (tmp_path / "greetings-1.0.dist-info" / "entry_points.txt").write_text(f"[taskcast.commands]\n{lines}\n")
    (tmp_path / "zzz-1.0.dist-info" / "entry_points.txt").write_text("[taskcast.commands]\ngreet = not_there:x\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("greetings", None)


def test_one_is_run_like_our_own() -> None:
    arguments = ["greet", "--loudly", "bob"]
    done = CliRunner().invoke(program_for(arguments), arguments)
    assert (done.exit_code, done.stdout) == (7, "BOB\n")


def test_help_lists_those_that_can_be_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    done = CliRunner().invoke(program_for(["--help"]), ["--help"])
    assert done.exit_code == 0
    assert "Greet somebody." in done.stdout
    assert "Made with click." in done.stdout
    assert "doctor" in done.stdout
    assert "Never seen." not in done.stdout
    told = capsys.readouterr().err
    assert "the command gone of greetings cannot be loaded" in told
    assert "the command nothing of greetings is no function" in told
    assert "the command numbers of greetings cannot be loaded" in told


def test_a_named_one_that_cannot_be_loaded_is_an_error() -> None:
    with pytest.raises(CliError, match="gone of greetings cannot be loaded"):
        program_for(["gone"])


def test_a_command_of_ours_loads_no_other() -> None:
    assert list(program_for(["start"]).commands) == ["start"]
    assert "greetings" not in sys.modules


def test_only_the_named_one_is_loaded() -> None:
    assert list(extensions.commands("greet")) == ["greet"]
    assert {"greet", "start"} <= extensions.commands("strat").keys()

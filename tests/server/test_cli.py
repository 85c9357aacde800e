"""The `taskcast` command itself."""

from importlib.metadata import version
from pathlib import Path

from tests.server.cli_programs import taskcast


def test_the_installed_command_tells_its_version(tmp_path: Path) -> None:
    done = taskcast("--version", home=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"taskcast {version('taskcast-server')}\n")


def test_help_names_the_commands(tmp_path: Path) -> None:
    done = taskcast("--help", home=tmp_path)
    assert done.returncode == 0
    assert "Usage: taskcast" in done.stdout
    for command in ("start", "run", "logs", "tail", "tasks", "node", "ping", "doctor", "backup", "restore"):
        assert f" {command} " in done.stdout


def test_an_unknown_command_is_an_error_of_use(tmp_path: Path) -> None:
    done = taskcast("strat", home=tmp_path)
    assert done.returncode == 2
    assert "strat" in done.stderr

"""The `taskcast` command."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

TASKCAST = Path(sys.executable).with_name("taskcast")


def test_the_installed_command_tells_its_version() -> None:
    done = subprocess.run([TASKCAST, "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, f"taskcast {version('taskcast-server')}\n")


def test_without_a_command_it_shows_help() -> None:
    done = subprocess.run([TASKCAST], capture_output=True, text=True, timeout=60, check=False)
    assert "Usage: taskcast" in done.stdout + done.stderr

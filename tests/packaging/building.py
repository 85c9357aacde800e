"""Building distributions to wheels, and installing them into environments of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def run(command: Sequence[str | Path], cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done


def uv() -> str:
    found = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    assert found, "uv is in the dev group"
    return found


def install(wheel: Path | str, python: Path, siblings: Path, pins: Path) -> None:
    """Install a wheel with what it declares: from uv's cache, where `make setup` left it, else from outside."""
    command: list[str | Path] = [uv(), "pip", "install", "--quiet", "--python", python, wheel]
    command += ["--find-links", siblings, "--constraint", pins]
    cached = subprocess.run([*command, "--offline"], capture_output=True, timeout=60, check=False)
    if cached.returncode:
        run(command, cwd=siblings)


def build(source: Path, directory: Path) -> None:
    """Build the wheel of one distribution."""
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory], cwd=source)


def empty_environment(path: Path) -> Path:
    """Make an environment in which nothing is installed: its interpreter."""
    run([uv(), "venv", "--quiet", "--no-project", "--python", sys.executable, path], cwd=path.parent)
    return path / "bin" / "python"


def wheel_of(wheels: Path, name: str) -> Path:
    (wheel,) = wheels.glob(f"{name.replace('-', '_')}-*.whl")
    return wheel

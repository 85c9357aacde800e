"""Each distribution, built to a wheel, works in an empty environment with only what it declares."""

import configparser
import email
import email.message
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.packaging.building import empty_environment, install, run, wheel_of
from tests.tools.version import ROOT, versions

DISTRIBUTIONS = sorted(versions())

# Imports every module of a package but those that need an extra, and loads the distribution's entry points.
PROBE = """
import importlib, importlib.metadata, pkgutil, sys
distribution, package, *extra = sys.argv[1:]
top = importlib.import_module(package)
skip = lambda name: any(name == each or name.startswith(each + ".") for each in extra)
walk = pkgutil.walk_packages(top.__path__, package + ".", onerror=lambda name: None)
names = [found.name for found in walk]
for name in names:
    if not skip(name):
        importlib.import_module(name)
for entry in importlib.metadata.distribution(distribution).entry_points:
    if not skip(entry.module):
        entry.load()
print("imported", 1 + len(names))
"""
NEEDS_AN_EXTRA = {"taskcast-core": ["taskcast_core.testing"]}


def metadata(wheel: Path) -> tuple[email.message.Message, dict[str, dict[str, str]], set[str]]:
    """The METADATA, the entry points by group, and the file names of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = next(name.partition("/")[0] for name in names if name.endswith(".dist-info/METADATA"))
        entries = configparser.ConfigParser(delimiters=["="])
        entries.optionxform = str  # type: ignore[assignment,method-assign]
        if f"{info}/entry_points.txt" in names:
            entries.read_string(archive.read(f"{info}/entry_points.txt").decode())
        message = email.message_from_bytes(archive.read(f"{info}/METADATA"))
    return message, {group: dict(entries[group]) for group in entries.sections()}, names


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_says_what_its_project_says(wheels: Path, name: str) -> None:
    project = tomllib.loads((ROOT / name / "pyproject.toml").read_text())["project"]
    message, entries, names = metadata(wheel_of(wheels, name))
    assert message["Name"] == name
    assert message["Version"] == versions()["taskcast-core"]
    assert message["Requires-Python"] == ">=3.11"
    assert message["License-Expression"] == "MIT"
    assert f"# {name}" in message.get_payload()
    assert any(each.endswith("/licenses/LICENSE") for each in names)
    assert entries.get("console_scripts", {}) == project.get("scripts", {})
    declared = project.get("entry-points", {})
    assert {group: found for group, found in entries.items() if group != "console_scripts"} == declared


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_holds_its_whole_package_and_nothing_else(wheels: Path, name: str) -> None:
    package = name.replace("-", "_")
    _, _, names = metadata(wheel_of(wheels, name))
    source = ROOT / name / "src"
    wanted = {
        path.relative_to(source).as_posix()
        for path in (source / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert f"{package}/py.typed" in names
    assert {each for each in names if ".dist-info/" not in each} == wanted


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_works_alone(wheels: Path, pins: Path, tmp_path: Path, name: str) -> None:
    python = empty_environment(tmp_path / "environment")
    install(wheel_of(wheels, name), python, wheels, pins)
    extra = NEEDS_AN_EXTRA.get(name, [])
    done = run([python, "-I", "-W", "error", "-c", PROBE, name, name.replace("-", "_"), *extra], cwd=tmp_path)
    assert done.stdout.startswith("imported ")

"""The example of a store: a wheel like anybody's, installed beside ours, found by its name in the configuration."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.building import build, empty_environment, install, run, wheel_of
from tests.tools.version import ROOT

STORE = ROOT / "docs" / "examples" / "taskcast-example-store"

CONFIG = "adapters: {shortTermStore: {provider: journal, path: tasks.journal}}\n"
TELL = """
import asyncio, sys
from taskcast_core import open_engine

async def main():
    async with open_engine("taskcast.config.yaml") as engine:
        if sys.argv[1] == "write":
            await engine.create_task(id="story", type="llm.chat")
            await engine.transition_task("story", "running")
            for word in ("Once ", "upon ", "a time"):
                await engine.publish_event(
                    "story", type="llm.delta", data={"delta": word}, series_id="answer", series_mode="accumulate")
            await engine.transition_task("story", "completed")
        async for event in engine.subscribe("story"):
            print(event.type, event.data)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def python(wheels: Path, pins: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the example, core and server, made of wheels alone."""
    directory = tmp_path_factory.mktemp("example")
    build(STORE, directory)
    python = empty_environment(directory / "environment")
    install(f"{wheel_of(directory, STORE.name)}[testing]", python, wheels, pins)
    install(wheel_of(wheels, "taskcast-server"), python, wheels, pins)
    return python


def test_the_whole_of_it_is_small() -> None:
    lines = [path.read_text().splitlines() for path in STORE.rglob("src/**/*.py")]
    assert sum(map(len, lines)) <= 200


def test_it_is_found_from_yaml_and_keeps_what_it_was_given(python: Path, tmp_path: Path) -> None:
    (tmp_path / "taskcast.config.yaml").write_text(CONFIG)
    first = run([python, "-I", "-W", "error", "-c", TELL, "write"], cwd=tmp_path).stdout
    assert "{'delta': 'Once upon a time'}" in first
    assert run([python, "-I", "-W", "error", "-c", TELL, "read"], cwd=tmp_path).stdout == first
    listed = run([python.with_name("taskcast"), "plugins"], cwd=tmp_path).stdout
    assert "journal" in listed and "taskcast-example-store" in listed


def test_one_process_has_the_file(python: Path, tmp_path: Path) -> None:
    (tmp_path / "taskcast.config.yaml").write_text(CONFIG)
    twice = TELL.replace(
        "        if sys.argv", "        async with open_engine('taskcast.config.yaml'): pass\n        if sys.argv"
    )
    done = subprocess.run(
        [python, "-I", "-c", twice, "write"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "in use by another store" in done.stderr


def test_it_keeps_every_contract_that_it_declares(python: Path, tmp_path: Path) -> None:
    shutil.copytree(STORE / "tests", tmp_path / "tests")
    shutil.copy(STORE / "pyproject.toml", tmp_path)
    report = run(
        [python, "-m", "pytest", "-q", "--assert=plain", "-p", "no:cacheprovider", "tests"], cwd=tmp_path
    ).stdout
    assert "TestJournalStore: TaskLog, Listing, Deadlines, Followers, Cold, Workers\n" in report
    assert "found, but not tested" not in report
    assert "Durable: what was acknowledged is there after the process was killed" in report
    assert "not expected to pass" not in report

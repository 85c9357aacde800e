"""The conformance suite, run as its users run it, against the server of this checkout."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parents[1] / "conformance"
TASKCAST = Path(sys.executable).with_name("taskcast")
SPREAD = Path(__file__).parents[1] / "tools" / "spread.py"

LAUNCH = {
    "redis": f"{sys.executable} {SPREAD} --port {{port}} --servers 3 -- {TASKCAST} start -c {{config}} -p {{own_port}}"
}
"""Redis is what several processes share: three of them, and any of them may answer any request."""


@pytest.fixture
def storage_urls(request: pytest.FixtureRequest, storage: str) -> dict[str, str]:
    """Where the servers are that this storage needs."""
    urls = {}
    if storage.startswith("redis"):
        urls["REDIS_URL"] = request.getfixturevalue("redis_server").url
    if storage.endswith("pg"):
        urls["POSTGRES_URL"] = request.getfixturevalue("postgres_server").create_database()
    return urls


@pytest.mark.timeout(1300)
@pytest.mark.parametrize("storage", ["memory", "sqlite", "redis", "redis_pg"])
def test_the_whole_suite_passes(storage: str, storage_urls: dict[str, str], tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "pytest", str(SUITE), "-q", "--no-header", "--storage", storage,
        "-c", str(SUITE / "pytest.ini"), "--rootdir", str(SUITE), f"--basetemp={tmp_path / 'suite'}",
        "-p", "no:xdist", "-p", "no:randomly", "-p", "no:cacheprovider",
        "--launch", LAUNCH.get(storage, f"{TASKCAST} start -c {{config}} -p {{port}}"),
    ]  # fmt: skip
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "TASKCAST_", "REDIS_URL", "POSTGRES_URL"))
    }
    done = subprocess.run(
        command, cwd=tmp_path, env=clean | storage_urls, capture_output=True, text=True, timeout=1200, check=False
    )
    summary = re.search(r"CONFORMANCE: (\d+) passed, (\d+) failed", done.stdout)
    assert summary, done.stdout + done.stderr
    assert int(summary.group(2)) == 0, done.stdout[-20_000:]
    assert int(summary.group(1)) > 150
    assert done.returncode == 0

"""``taskcast service``: a unit that systemd accepts and that grants little, in the place where it belongs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from taskcast_server.cli import service
from taskcast_server.cli.output import CliError
from taskcast_server.cli.systemd_unit import Unit, closed_to_others, render

ANALYZE = shutil.which("systemd-analyze")
PROGRAM = Path(sys.executable).with_name("taskcast")


def keys(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's configuration directory of our own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def call(*arguments: str) -> str:
    done = CliRunner().invoke(service.app, arguments, catch_exceptions=False, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


@pytest.mark.skipif(ANALYZE is None, reason="systemd is not installed")
@pytest.mark.parametrize("is_of_user", [False, True])
@pytest.mark.parametrize("is_full", [False, True])
def test_systemd_accepts_the_unit(tmp_path: Path, is_of_user: bool, is_full: bool) -> None:
    assert ANALYZE is not None
    program = tmp_path / "bin 100%" / "taskcast"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    more = {"config": Path("/etc/my taskcast.yaml"), "port": 80, "host": "::", "storage": "sqlite"} if is_full else {}
    unit = Unit(program, is_of_user=is_of_user, db_path=Path('/srv/"it"/$x.db') if is_full else None, **more)
    path = tmp_path / "taskcast.service"
    path.write_text(render(unit))
    command = [ANALYZE, *(["--user"] if is_of_user else []), "verify", path]
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    complaints = [line for line in done.stderr.splitlines() if str(path) in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


@pytest.mark.skipif(ANALYZE is None, reason="systemd is not installed")
def test_systemd_thinks_it_safe(tmp_path: Path) -> None:
    assert ANALYZE is not None
    path = tmp_path / "taskcast.service"
    path.write_text(render(Unit(PROGRAM)))
    command = [ANALYZE, "security", "--offline=true", "--threshold=20", "--no-pager", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd cannot look at files")
    assert done.returncode == 0, done.stdout


def test_the_machines_service_has_an_account_of_its_own_and_no_powers() -> None:
    found = keys(render(Unit(Path("/opt/taskcast/bin/taskcast"), config=Path("/etc/taskcast/a.yaml"), port=8080)))
    command = "/opt/taskcast/bin/taskcast start --config /etc/taskcast/a.yaml --port 8080"
    assert found["ExecStart"] == [command]
    assert found["DynamicUser"] == ["yes"]
    assert found["CapabilityBoundingSet"] == [""]
    assert found["ProtectHome"] == ["yes"]
    assert found["WantedBy"] == ["multi-user.target"]
    assert "XDG_STATE_HOME=%S" in found["Environment"], "its tasks are kept in StateDirectory"


def test_a_low_port_is_the_only_power() -> None:
    found = keys(render(Unit(PROGRAM, port=443)))
    assert found["CapabilityBoundingSet"] == found["AmbientCapabilities"] == ["CAP_NET_BIND_SERVICE"]


def test_an_account_that_exists_may_have_its_files_elsewhere() -> None:
    found = keys(render(Unit(PROGRAM, db_path=Path("/home/app/t.db"), account="app")))
    assert found["User"] == ["app"]
    assert "DynamicUser" not in found
    assert found["ReadWritePaths"] == ["/home/app"]
    assert found["ProtectHome"] == ["read-only"]


def test_it_is_given_time_to_stop() -> None:
    from taskcast_core.background import SHUTDOWN_S
    from taskcast_server.serve import FINISH_S

    (stop_s,) = keys(render(Unit(PROGRAM)))["TimeoutStopSec"]
    assert int(stop_s) >= FINISH_S + 2 * SHUTDOWN_S


def test_words_are_quoted_as_systemd_reads_them() -> None:
    (command,) = keys(render(Unit(Path("/opt/a b/taskcast"), config=Path("/etc/50%/$x"))))["ExecStart"]
    assert command == '"/opt/a b/taskcast" start --config /etc/50%%/$$x'


def test_install_writes_and_says_what_comes_next(home: Path) -> None:
    said = call("install", "--user", "--port", "4000")
    path = home / "systemd" / "user" / "taskcast.service"
    assert f"ExecStart={PROGRAM} start --port 4000" in path.read_text()
    assert "systemctl --user enable --now taskcast" in said
    with pytest.raises(CliError, match="--force"):
        call("install", "--user")
    call("install", "--user", "--force")
    assert f"ExecStart={PROGRAM} start\n" in path.read_text()


def test_print_writes_nothing(home: Path) -> None:
    assert "[Service]" in call("install", "--user", "--print", "--config", "relative.yaml")
    assert list(home.iterdir()) == []


def test_relative_paths_are_of_this_directory(home: Path) -> None:
    assert f"--config {Path.cwd() / 'relative.yaml'}" in call("install", "--user", "--print", "-c", "relative.yaml")


@pytest.mark.parametrize(
    "arguments",
    [["--user", "--account", "app"], ["--db-path", "/srv/t.db"], ["--user", "--name", "../x"]],
)
def test_what_cannot_work_is_refused(home: Path, arguments: list[str]) -> None:
    with pytest.raises(CliError):
        call("install", *arguments)
    assert list(home.iterdir()) == []


def test_what_the_account_cannot_reach_is_known(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    config = tmp_path / "a.yaml"
    config.write_text("")
    assert list(closed_to_others(Unit(Path("/usr/bin/env"), config=config))) == [config]
    assert list(closed_to_others(Unit(Path("/usr/bin/env"), config=config, is_of_user=True))) == []
    assert list(closed_to_others(Unit(Path("/usr/bin/env"), config=Path("/etc/passwd")))) == []


def test_the_other_verbs_are_systemctls(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = home / "log"
    script = home / "systemctl"
    script.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexit 3\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(home), prepend=os.pathsep)
    for verb in ("start", "stop", "restart"):
        assert CliRunner().invoke(service.app, [verb, "--user"]).exit_code == 3
    assert CliRunner().invoke(service.app, ["status"]).exit_code == 3
    call("install", "--user")
    assert "Removed" in call("uninstall", "--user")
    assert log.read_text().splitlines() == [
        "--user start taskcast", "--user stop taskcast", "--user restart taskcast", "status --no-pager taskcast",
        "--user disable --now taskcast", "--user daemon-reload",
    ]  # fmt: skip
    assert not (home / "systemd" / "user" / "taskcast.service").exists()


def test_a_machine_without_systemd_is_told_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(CliError, match="systemd"):
        call("start")

"""The Dockerfile and the compose file: pinned, without rights, with a health check; their steps work without Docker."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskcast_core.config import load_config
from taskcast_core.plugins import Plugins
from tests.packaging.building import uv
from tests.tools.version import ROOT, distributions

HADOLINT = shutil.which("hadolint")
SHIPPED = ("core", "redis", "postgres", "sentry", "server")


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, comments gone and continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for line in joined.splitlines() if line for word, _, rest in [line.partition(" ")]]


def last(word: str) -> str:
    return [rest for each, rest in instructions() if each == word][-1]


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")
def test_hadolint_has_nothing_to_say() -> None:
    assert HADOLINT is not None
    done = subprocess.run([HADOLINT, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_is_slim_and_built_in_two_stages() -> None:
    stages = [rest for word, rest in instructions() if word == "FROM"]
    assert stages == ["${BASE} AS build", "${BASE}"]
    assert re.fullmatch(r"BASE=python:3\.\d+-slim-[a-z]+", last("ARG"))
    final = instructions()[max(at for at, each in enumerate(instructions()) if each[0] == "FROM") :]
    assert not any("pip" in rest or "apt" in rest for word, rest in final if word == "RUN")
    assert [rest for word, rest in final if word == "COPY"] == ["--from=build /opt/taskcast /opt/taskcast"]


def test_the_server_is_nobody_special() -> None:
    words = [word for word, _ in instructions()]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", last("USER"))
    after = instructions()[len(words) - words[::-1].index("USER") :]
    assert {word for word, _ in after} <= {
        "WORKDIR",
        "VOLUME",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    }
    assert (last("ENTRYPOINT"), last("CMD")) == ('["taskcast"]', '["start"]')


def test_everything_in_it_is_pinned_by_the_lock() -> None:
    runs = [rest for word, rest in instructions() if word == "RUN"]
    pip, uv_install = (
        next(run for run in runs if word in run) for word in ("pip install --no-cache", "uv pip install")
    )
    assert "--require-hashes" in pip
    assert "--constraints requirements.lock --build-constraints requirements.lock" in re.sub(r"\s+", " ", uv_install)
    assert {f"./taskcast-{name}" for name in SHIPPED} <= set(shlex.split(uv_install))
    lock = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    for path in distributions():
        backend = tomllib.loads((path / "pyproject.toml").read_text())["build-system"]["requires"]
        assert {re.split(r"[^a-z0-9-]", each, maxsplit=1)[0] for each in backend} <= lock


def test_what_is_copied_is_sent_to_the_builder_and_nothing_else() -> None:
    copied = {rest.split()[0] for word, rest in instructions() if word == "COPY" and "--from" not in rest}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed == {"requirements.lock", *(f"taskcast-{name}" for name in SHIPPED)}


def test_the_health_check_finds_out(tmp_path: Path) -> None:
    """It is run as it stands against a port where nobody is; that it says yes is seen with the real server."""
    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    assert command[:3] == ["python", "-I", "-c"]
    done = subprocess.run(
        [sys.executable, *command[1:]], env={"TASKCAST_PORT": "9"}, capture_output=True, timeout=60, check=False
    )
    assert done.returncode != 0
    compile(command[3], "HEALTHCHECK", "exec")


@pytest.mark.long
def test_the_steps_of_the_build_work(tmp_path: Path) -> None:
    """Each RUN of the first stage, in a directory of its own in place of the image."""
    for name in ("requirements.lock", *(f"taskcast-{each}" for each in SHIPPED)):
        source = ROOT / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path)
    target = tmp_path / "opt"
    tools = tmp_path / "tools"
    subprocess.run([uv(), "venv", "--quiet", "--seed", "--python", sys.executable, tools], check=True, timeout=100)
    own = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    env = {**own, "PATH": f"{tools / 'bin'}:/usr/bin:/bin", "UV_LINK_MODE": "copy", "UV_SYSTEM_CERTS": "true"}
    for word, rest in instructions():
        if word == "FROM" and "AS build" not in rest:
            break
        if word == "RUN":
            command = rest.replace("/opt/taskcast", str(target))
            done = subprocess.run(
                ["/bin/bash", "-euo", "pipefail", "-c", command],
                cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
    described = subprocess.run(
        [target / "bin" / "taskcast", "plugins"], env=env, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert all(f"taskcast-{name}" in described for name in SHIPPED)


# ── compose.yaml ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_service_is_checked_and_stores_outlive_their_containers() -> None:
    services = compose()["services"]
    assert set(services) == {"taskcast", "redis", "postgres"}
    for name in ("redis", "postgres"):
        assert services[name]["healthcheck"]["test"]
        assert services["taskcast"]["depends_on"][name] == {"condition": "service_healthy"}
        (volume,) = services[name]["volumes"]
        assert volume.partition(":")[0] in compose()["volumes"]
        assert "ports" not in services[name], "only Taskcast is reached from outside"
    assert all(each["restart"] == "unless-stopped" for each in services.values())


def test_redis_keeps_what_it_acknowledged_and_evicts_nothing() -> None:
    command = compose()["services"]["redis"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


def test_taskcast_is_given_time_to_stop_and_no_rights() -> None:
    from taskcast_core.background import SHUTDOWN_S
    from taskcast_server.serve import FINISH_S

    taskcast = compose()["services"]["taskcast"]
    assert int(taskcast["stop_grace_period"].removesuffix("s")) >= FINISH_S + 2 * SHUTDOWN_S
    assert taskcast["read_only"] is True
    assert taskcast["cap_drop"] == ["ALL"]
    assert taskcast["ports"][0].startswith("127.0.0.1:")


def test_no_secret_has_a_default() -> None:
    text = (ROOT / "compose.yaml").read_text()
    for name in ("POSTGRES_PASSWORD", "TASKCAST_JWT_SECRET"):
        assert set(re.findall(rf"\$\{{{name}([^}}]*)\}}", text)) == {":?see docs/deploy/compose.env"}
        assert f"\n{name}=\n" in (ROOT / "docs/deploy/compose.env").read_text()


def test_the_environment_means_something_to_the_server() -> None:
    given = {"POSTGRES_PASSWORD": "secret-of-postgres", "TASKCAST_JWT_SECRET": "x" * 32}

    def filled(text: str) -> str:
        return re.sub(r"\$\{(\w+)(?::[?-]([^}]*))?\}", lambda found: given.get(found[1], found[2] or ""), text)

    env = {name: filled(value) for name, value in compose()["services"]["taskcast"]["environment"].items()}
    plugins = Plugins()
    config = load_config(ROOT / "tests/deploy/nothing.yaml", env=env, plugins=plugins)
    plugins.check(config)
    assert config.warnings == ()
    chosen = {role: plugins.select(role, config) for role in ("broadcast", "short_term_store", "long_term_store")}
    assert {role: found.name for role, found in chosen.items() if found} == {
        "broadcast": "redis", "short_term_store": "redis", "long_term_store": "postgres",
    }  # fmt: skip
    unread = set(env) - {setting.origin.name for setting in config.provenance.values()}
    assert unread <= {"TASKCAST_AUTO_MIGRATE", "TASKCAST_JWT_SECRET", "SENTRY_DSN"}, "read elsewhere, or empty"

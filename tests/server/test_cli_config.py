"""`taskcast config check`, `init`, `token` and `plugins`: what holds before a server starts."""

import json
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.server.cli_programs import taskcast


def check(home: Path, *arguments: str, **env: str) -> tuple[int, Any]:
    done = taskcast("config", "check", "--output", "json", *arguments, home=home, env=env)
    return done.returncode, json.loads(done.stdout)


def test_where_each_value_comes_from(tmp_path: Path) -> None:
    (tmp_path / "taskcast.config.yaml").write_text("port: 4000\nauth: {mode: jwt, jwt: {secret: s3cret-s3cret}}\n")
    status, facts = check(tmp_path, "--storage", "memory", TASKCAST_PORT="4001")
    assert (status, facts["ok"], facts["errors"]) == (0, True, [])
    assert facts["settings"]["port"] == {"value": "4001", "origin": "env TASKCAST_PORT"}
    assert facts["settings"]["storage"] == {"value": "'memory'", "origin": "flag storage"}
    assert facts["settings"]["auth.jwt.secret"] == {"value": "***", "origin": "file taskcast.config.yaml"}
    assert facts["settings"]["host"]["origin"] == "default"
    assert "s3cret" not in json.dumps(facts)


def test_every_fault_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "taskcast.config.yaml").write_text("port: none\nworkers: {enabled: perhaps}\nprot: 1\n")
    status, facts = check(tmp_path)
    assert status == 1
    assert {each["path"] for each in facts["errors"]} == {"port", "workers.enabled"}


def test_a_fault_of_the_chosen_store_is_told_beside_the_values(tmp_path: Path) -> None:
    (tmp_path / "taskcast.config.yaml").write_text("adapters: {shortTermStore: {provider: sqlite, readers: 0}}\n")
    done = taskcast("config", "check", home=tmp_path)
    assert done.returncode == 1
    assert "adapters.shortTermStore.readers" in done.stderr
    assert "OPTION" in done.stdout


def test_warnings_do_not_fail(tmp_path: Path) -> None:
    (tmp_path / "taskcast.config.yaml").write_text("prot: 1\nauth: {mode: jwt}\n")
    status, facts = check(tmp_path)
    assert status == 0
    assert any('unknown key "prot"' in each for each in facts["warnings"])
    assert any("every request gets 401" in each for each in facts["warnings"])


@pytest.mark.parametrize(
    ("file", "flags", "env", "expected"),
    [
        (None, (), {}, ("sqlite", "{home}/.local/state/taskcast/taskcast.db", "default")),
        (None, (), {"XDG_STATE_HOME": "/state"}, ("sqlite", "/state/taskcast/taskcast.db", "default")),
        (None, ("--db-path", "x.db"), {}, ("sqlite", "{home}/x.db", "flag adapters.shortTermStore.path")),
        (None, (), {"TASKCAST_SQLITE_PATH": "y.db"}, ("sqlite", "{home}/y.db", "env TASKCAST_SQLITE_PATH")),
        (None, ("--db-path", "x.db"), {"TASKCAST_SQLITE_PATH": "y.db"},
         ("sqlite", "{home}/x.db", "flag adapters.shortTermStore.path")),
        (None, (), {"TASKCAST_STORAGE": "memory", "TASKCAST_SQLITE_PATH": "y.db"}, ("memory", None, None)),
        ("port: 1\n", (), {}, (None, None, None)),
        ("port: 1\n", ("--db-path", "x.db"), {}, ("sqlite", "{home}/x.db", "flag adapters.shortTermStore.path")),
    ],
)  # fmt: skip
def test_where_tasks_are_kept(
    tmp_path: Path, file: str | None, flags: tuple[str, ...], env: dict[str, str], expected: tuple[str | None, ...]
) -> None:
    if file is not None:
        (tmp_path / "taskcast.config.yaml").write_text(file)
    status, facts = check(tmp_path, *flags, **env)
    assert status == 0
    storage, path, origin = expected
    found = facts["settings"].get("adapters.shortTermStore.path")
    assert facts["settings"]["storage"]["value"] == repr(storage)
    shown = found["value"].removesuffix("…") if found else None  # long values are cut
    assert (path.format(home=tmp_path).startswith(shown) if path and shown else shown is path) is True
    assert (found["origin"] if found else None) == origin


def test_a_path_for_a_store_without_one_is_refused(tmp_path: Path) -> None:
    done = taskcast("start", "--storage", "memory", "--db-path", "x.db", home=tmp_path)
    expected = "[taskcast] --db-path is for the storage sqlite, and another one is chosen\n"
    assert (done.returncode, done.stderr) == (1, expected)


def test_init_writes_a_configuration_that_is_right(tmp_path: Path) -> None:
    done = taskcast("init", home=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"Wrote {tmp_path / 'taskcast.config.yaml'}\n")
    assert check(tmp_path)[1]["warnings"] == []
    again = taskcast("init", home=tmp_path)
    assert again.returncode == 1
    assert "replace it with --force" in again.stderr
    assert taskcast("init", "--force", home=tmp_path).returncode == 0
    assert taskcast("init", "--global", home=tmp_path).returncode == 0
    assert (tmp_path / ".taskcast" / "taskcast.config.yaml").is_file()


def test_a_token_that_the_server_would_accept(tmp_path: Path) -> None:
    secret = "a-secret-of-thirty-two-characters"
    text = f"auth: {{mode: jwt, jwt: {{secret: {secret}, issuer: me, audience: you}}}}\n"
    (tmp_path / "taskcast.config.yaml").write_text(text)
    flags = ("--scope", "task:create", "--task-id", "a", "--subject", "ann", "--expires-in", "60")
    done = taskcast("token", *flags, home=tmp_path)
    claims = jwt.decode(done.stdout.strip(), secret, ["HS256"], audience="you", issuer="me")
    assert (claims["scope"], claims["taskIds"], claims["sub"]) == (["task:create"], ["a"], "ann")
    assert claims["exp"] - claims["iat"] == 60
    document = json.loads(taskcast("token", "--output", "json", home=tmp_path).stdout)
    assert jwt.decode(document["token"], secret, ["HS256"], audience="you")["scope"] == ["*"]


def test_no_token_where_none_is_asked_for(tmp_path: Path) -> None:
    done = taskcast("token", home=tmp_path)
    assert (done.returncode, done.stderr) == (1, "[taskcast] auth.mode is none; tokens are for the mode jwt\n")


def test_plugins_tell_distribution_and_place(tmp_path: Path) -> None:
    found = json.loads(taskcast("plugins", "--output", "json", home=tmp_path).stdout)["plugins"]
    assert {"short-term store", "broadcast", "authenticator", "plugin"} <= {each["kind"] for each in found}
    (sqlite,) = (each for each in found if (each["kind"], each["name"]) == ("short-term store", "sqlite"))
    assert sqlite["distribution"] == "taskcast-core"
    lines = taskcast("plugins", home=tmp_path).stdout.splitlines()
    assert lines[0].split() == ["KIND", "NAME", "DISTRIBUTION", "LOCATION"]


def test_nothing_to_migrate(tmp_path: Path) -> None:
    done = taskcast("migrate", home=tmp_path)
    expected = "[taskcast] No long-term store is configured; there is nothing to migrate.\n"
    assert (done.returncode, done.stdout) == (0, expected)

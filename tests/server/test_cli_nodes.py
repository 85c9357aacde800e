"""`taskcast node`, and which server a command talks to."""

import json
import stat
from pathlib import Path

import pytest

from taskcast_server.cli.nodes_file import Node, Nodes, read_nodes, write_nodes
from taskcast_server.cli.output import CliError
from taskcast_server.cli.targets import DEFAULT_URL, Target, choose, shown_url
from tests.server.cli_programs import taskcast


def test_the_life_of_a_node(tmp_path: Path) -> None:
    def node(*arguments: str) -> tuple[int, str]:
        done = taskcast("node", *arguments, home=tmp_path)
        return done.returncode, done.stdout + done.stderr

    assert node("list") == (0, f"No nodes configured. Using default: {DEFAULT_URL}\n")
    assert node("add", "prod", "--url", "https://tasks.example.com/", "--token", "s3cret", "--token-type", "admin") == (
        0, 'Added node "prod" → https://tasks.example.com\n',
    )  # fmt: skip
    assert node("add", "dev", "--url", "http://localhost:4000") == (0, 'Added node "dev" → http://localhost:4000\n')
    assert node("use", "prod") == (0, 'Switched to node "prod"\n')
    assert node("list") == (0, "* prod  https://tasks.example.com (admin)\n  dev  http://localhost:4000\n")
    assert node("use", "nobody") == (1, '[taskcast] Node "nobody" not found\n')

    path = tmp_path / ".taskcast" / "nodes.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {
        "current": "prod",
        "nodes": {
            "prod": {"url": "https://tasks.example.com", "token": "s3cret", "tokenType": "admin"},
            "dev": {"url": "http://localhost:4000"},
        },
    }
    assert node("remove", "prod") == (0, 'Removed node "prod"\n')
    assert read_nodes(path) == Nodes(None, {"dev": Node("http://localhost:4000")})
    assert node("remove", "prod") == (1, '[taskcast] Node "prod" not found\n')


def test_nodes_as_json_without_their_tokens(tmp_path: Path) -> None:
    taskcast("node", "add", "one", "--url", "http://user:pass@host:1", "--token", "s3cret", home=tmp_path)
    done = taskcast("node", "list", "--output", "json", home=tmp_path)
    assert json.loads(done.stdout) == {
        "current": None, "nodes": [{"name": "one", "url": "http://host:1", "tokenType": "jwt", "current": False}],
    }  # fmt: skip


def test_a_damaged_file_is_told_without_its_text(tmp_path: Path) -> None:
    path = tmp_path / ".taskcast" / "nodes.json"
    path.parent.mkdir()
    path.write_text('{"nodes": {"x": {"token": "s3cret"')
    done = taskcast("node", "list", home=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"[taskcast] {path} cannot be read: it is not JSON\n")
    path.write_text('{"nodes": ["s3cret"]}')
    with pytest.raises(CliError, match="is not a list of nodes"):
        read_nodes(path)


def test_a_file_is_replaced_whole_and_stays_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "nodes.json"
    write_nodes(path, Nodes("a", {"a": Node("http://a")}))
    path.chmod(0o644)
    write_nodes(path, Nodes(None, {}))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["nodes.json"]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    nodes = {"prod": Node("https://prod", "prod-token", "admin"), "dev": Node("http://dev")}
    write_nodes(tmp_path / "nodes.json", Nodes("prod", nodes))
    return {"TASKCAST_CONFIG_DIR": str(tmp_path)}


def test_who_decides_on_the_server(env: dict[str, str], tmp_path: Path) -> None:
    named = {**env, "TASKCAST_URL": "http://env"}
    assert choose(env={"TASKCAST_CONFIG_DIR": str(tmp_path / "none")}) == Target(DEFAULT_URL)
    assert choose(env=env) == Target("https://prod", "prod-token", "admin")
    assert choose(env=named).url == "http://env"
    assert choose("dev", env=named).url == "http://dev"
    assert choose("dev", "http://flag/", env=named).url == "http://flag"


def test_a_token_goes_only_to_the_server_it_is_for(env: dict[str, str]) -> None:
    with_token = {**env, "TASKCAST_TOKEN": "env-token"}
    assert choose(url="http://elsewhere", env=env).token is None
    assert choose("dev", env=with_token).token is None
    assert choose("prod", env=with_token) == Target("https://prod", "prod-token", "admin")
    assert choose(url="http://elsewhere", env=with_token) == Target("http://elsewhere", "env-token")
    assert choose("prod", token="flag", env=with_token) == Target("https://prod", "flag")


@pytest.mark.parametrize("url", ["localhost:3721", "ftp://host", "http://", "http://host:port", "http://[::1"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(CliError, match="is not an address"):
        choose(url=url, env={})


def test_credentials_in_an_address_are_not_shown() -> None:
    assert shown_url("redis://user:p@ss@host:6379/0") == "redis://host:6379/0"
    assert shown_url("http://host/path@x") == "http://host/path@x"

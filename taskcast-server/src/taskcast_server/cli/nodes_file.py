"""``nodes.json``: the servers that the user has given names to (wire spec, config-cli section 3)."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field

from taskcast_core.values import frozen
from taskcast_server.cli.output import CliError

ADMIN = "admin"
TOKEN_TYPES = ("jwt", ADMIN)
FILE_MODE = 0o600
"""The file holds tokens: nobody but its owner may read it."""


@frozen
class Node:
    """A named server. ``token_type``: ``jwt`` (sent as it is) or ``admin`` (exchanged for a JWT)."""

    url: str
    token: str | None = field(default=None, repr=False)
    token_type: str | None = None


@frozen
class Nodes:
    """All named servers, and which one commands use that name none."""

    current: str | None = None
    nodes: Mapping[str, Node] = field(factory=dict)

    def get(self, name: str) -> Node:
        """The node of this name.

        Raises:
            CliError: there is none.
        """
        if name not in self.nodes:
            raise CliError(f'Node "{name}" not found')
        return self.nodes[name]


def config_directory(env: Mapping[str, str] | None = None) -> Path:
    """Where the user's Taskcast files are: ``TASKCAST_CONFIG_DIR``, by default ``~/.taskcast``.

    Raises:
        CliError: there is no home directory.
    """
    named = (os.environ if env is None else env).get("TASKCAST_CONFIG_DIR")
    try:
        return Path(named or "~/.taskcast").expanduser()
    except RuntimeError as error:
        raise CliError("there is no home directory; set TASKCAST_CONFIG_DIR") from error


def nodes_path(env: Mapping[str, str] | None = None) -> Path:
    """The path of ``nodes.json``. Raises as `config_directory` does."""
    return config_directory(env) / "nodes.json"


def read_nodes(path: Path) -> Nodes:
    """The file's contents; nothing when there is no file.

    Raises:
        CliError: it cannot be read, or is not what this program writes.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return Nodes()
    except (OSError, ValueError) as error:
        raise CliError(f"{path} cannot be read: {_reason(error)}") from error
    try:
        nodes = {name: _node(each) for name, each in data["nodes"].items()}
        current = data.get("current")
    except (TypeError, KeyError, AttributeError) as error:
        raise CliError(f"{path} is not a list of nodes; move it away or repair it") from error
    return Nodes(current if current in nodes else None, nodes)


def write_nodes(path: Path, nodes: Nodes) -> None:
    """Replace the file at once and whole.

    Raises:
        CliError: it cannot be written.
    """
    data = {"current": nodes.current, "nodes": {name: _plain(each) for name, each in nodes.nodes.items()}}
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".nodes-", delete=False) as new:
            json.dump(data, new, indent=2, ensure_ascii=False)
            new.write("\n")
        written = Path(new.name)
        written.chmod(FILE_MODE)
        written.replace(path)
    except OSError as error:
        raise CliError(f"{path} cannot be written: {_reason(error)}") from error


def _node(data: dict[str, Any]) -> Node:
    url, token, token_type = data["url"], data.get("token"), data.get("tokenType")
    if not isinstance(url, str) or not isinstance(token, str | None) or token_type not in (None, *TOKEN_TYPES):
        raise TypeError(url)
    return Node(url, token, token_type)


def _plain(node: Node) -> dict[str, str]:
    known = {"url": node.url, "token": node.token, "tokenType": node.token_type}
    return {name: value for name, value in known.items() if value is not None}


def _reason(error: Exception) -> str:
    """What is wrong, without the text of the file, which may hold a token."""
    return error.strerror or "input/output error" if isinstance(error, OSError) else "it is not JSON"

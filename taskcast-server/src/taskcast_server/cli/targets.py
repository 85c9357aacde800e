"""Which server a command talks to, and as whom.

Server: ``--url`` > ``--node`` > ``TASKCAST_URL`` > the current node > ``http://localhost:3721``. A node's token goes to
that node alone; ``--token`` always wins, and ``TASKCAST_TOKEN`` is for every server that was not named by ``--node``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from attrs import field

from taskcast_core.values import frozen
from taskcast_server.cli.nodes_file import Node, nodes_path, read_nodes
from taskcast_server.cli.output import CliError

DEFAULT_URL = "http://localhost:3721"


@frozen
class Target:
    """A server and the credentials for it. ``token_type``: see `Node`."""

    url: str
    token: str | None = field(default=None, repr=False)
    token_type: str | None = None


def choose(
    node: str | None = None,
    url: str | None = None,
    token: str | None = None,
    env: Mapping[str, str] | None = None,
) -> Target:
    """The target of a command with these flags.

    Raises:
        CliError: the node is not known, ``nodes.json`` cannot be read, or the address is no http(s) URL.
    """
    env = os.environ if env is None else env
    named = _named(node, url, env)
    address = checked_url(url or named.url)
    if token:
        return Target(address, token)
    from_env = None if node and not url else env.get("TASKCAST_TOKEN")
    if from_env:
        return Target(address, from_env)
    return Target(address, named.token, named.token_type)


def _named(node: str | None, url: str | None, env: Mapping[str, str]) -> Node:
    if url:
        return Node(url)
    if node:
        return read_nodes(nodes_path(env)).get(node)
    if at := env.get("TASKCAST_URL"):
        return Node(at)
    known = read_nodes(nodes_path(env))
    return known.get(known.current) if known.current else Node(DEFAULT_URL)


def checked_url(url: str) -> str:
    """The address without a slash at its end.

    Raises:
        CliError: it is no http(s) URL.
    """
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        has_host = False
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not has_host:
        raise CliError(f'"{shown_url(url)}" is not an address of the form http://HOST:PORT')
    return url.rstrip("/")


def shown_url(url: str) -> str:
    """The address without credentials."""
    head, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{head}{separator}{authority.rpartition('@')[2]}{slash}{path}" if separator else url

"""``taskcast node``: names for servers."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from attrs import evolve

from taskcast_server.cli.commands import Group, argument, option
from taskcast_server.cli.flags import OutputOption
from taskcast_server.cli.nodes_file import Node, Nodes, nodes_path, read_nodes, write_nodes
from taskcast_server.cli.output import OutputFormat, tell, tell_json, tell_result
from taskcast_server.cli.targets import DEFAULT_URL, checked_url, shown_url

app = Group("node", help="Give servers names, and choose one.")

Name = Annotated[str, argument(help="Name of the server.")]


class TokenType(StrEnum):
    """What kind of token a node has."""

    JWT = "jwt"
    ADMIN = "admin"


@app.command()
def add(
    name: Name,
    url: Annotated[str, option(help="Address of the server.")],
    token: Annotated[str | None, option(help="Token to send.")] = None,
    token_type: Annotated[
        TokenType | None, option(help="jwt: sent as it is (default); admin: exchanged for a JWT.")
    ] = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Add a server, or replace the one of that name."""
    path = nodes_path()
    known = read_nodes(path)
    kind = token_type or (TokenType.JWT if token else None)
    node = Node(checked_url(url), token, kind.value if kind else None)
    write_nodes(path, evolve(known, nodes={**known.nodes, name: node}))
    tell_result(
        {"ok": True, "name": name, "url": shown_url(node.url)}, f'Added node "{name}" → {shown_url(node.url)}', output
    )


@app.command()
def remove(name: Name, output: OutputOption = OutputFormat.TEXT) -> None:
    """Forget a server."""
    path = nodes_path()
    known = read_nodes(path)
    known.get(name)
    left = {each: node for each, node in known.nodes.items() if each != name}
    write_nodes(path, Nodes(None if known.current == name else known.current, left))
    tell_result({"ok": True, "name": name}, f'Removed node "{name}"', output)


@app.command()
def use(name: Name, output: OutputOption = OutputFormat.TEXT) -> None:
    """Make a server the one that commands talk to."""
    path = nodes_path()
    known = read_nodes(path)
    known.get(name)
    write_nodes(path, evolve(known, current=name))
    tell_result({"ok": True, "name": name}, f'Switched to node "{name}"', output)


@app.command("list")
def list_nodes(output: OutputOption = OutputFormat.TEXT) -> None:
    """List the servers that have a name."""
    known = read_nodes(nodes_path())
    if output is OutputFormat.JSON:
        nodes = [
            {"name": name, "url": shown_url(node.url), "tokenType": node.token_type, "current": name == known.current}
            for name, node in known.nodes.items()
        ]
        tell_json({"current": known.current, "nodes": nodes})
        return
    if not known.nodes:
        tell(f"No nodes configured. Using default: {DEFAULT_URL}")
    for name, node in known.nodes.items():
        mark = "*" if name == known.current else " "
        kind = f" ({node.token_type})" if node.token_type else ""
        tell(f"{mark} {name}  {shown_url(node.url)}{kind}")

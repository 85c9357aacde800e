"""Configuration before it has a type: nested mappings and lists whose leaves remember where they come
from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import TypeAlias

from attrs import evolve, field

from taskcast_core.config.errors import InvalidConfig, Problem
from taskcast_core.values import frozen

MAX_DEPTH = 32
"""Levels of nesting; more is a mistake (a YAML alias that contains itself, for one)."""

_CREDENTIALS = re.compile(r"(?<=://)([^/@\s:]*):([^/\s]*)@")
_SHOWN_LENGTH = 80


class Rank(IntEnum):
    """Who wins: a flag over the environment over the file over the default."""

    DEFAULT = 0
    FILE = 1
    ENV = 2
    FLAG = 3


@frozen
class Origin:
    """Where a value comes from.

    Attributes:
        rank: the kind of source. name: the file, the variable or the flag.
        base: the directory at which relative paths start; None leaves them to the working directory.
    """

    rank: Rank
    name: str = ""
    base: Path | None = None

    def __str__(self) -> str:
        return f"{self.rank.name.lower()} {self.name}".rstrip()


DEFAULT = Origin(Rank.DEFAULT)


@frozen
class Unset:
    """Stands for a text with ``${VAR}`` whose variable is not set, until somebody wants to use it."""

    variable: str
    text: str = field(repr=False)


@frozen
class Leaf:
    """A scalar, or a live object of a Python configuration. ``over`` is the weaker value that it replaced."""

    value: object = field(repr=False)
    origin: Origin
    over: Leaf | None = None

    def from_file(self) -> object:
        """What the file says here, also where something stronger replaced it; None if nothing."""
        leaf: Leaf | None = self
        while leaf is not None and leaf.origin.rank is not Rank.FILE:
            leaf = leaf.over
        return leaf.value if leaf else None


Node: TypeAlias = "dict[str, Node] | list[Node] | Leaf"


def grow(value: object, origin: Origin, expand: Callable[[str], object], path: str = "", depth: int = 0) -> Node:
    """Turn parsed data into nodes; every text goes through ``expand``, and is left out if that gives None.

    Raises:
        InvalidConfig: a key that is no text, or nesting deeper than `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise InvalidConfig([Problem(path, f"{path} is nested more than {MAX_DEPTH} levels deep")], origin.name)
    if isinstance(value, Mapping):
        grown: dict[str, Node] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                message = f"the key {key!r} at {path or 'the top level'} must be text; put it in quotes"
                raise InvalidConfig([Problem(path, message, repr(key), "text")], origin.name)
            node = grow(item, origin, expand, join(path, key), depth + 1)
            if not _left_out(item, node):
                grown[key] = node
        return grown
    if isinstance(value, list | tuple):
        nodes = [(item, grow(item, origin, expand, f"{path}[{at}]", depth + 1)) for at, item in enumerate(value)]
        return [node for item, node in nodes if not _left_out(item, node)]
    return Leaf(expand(value) if isinstance(value, str) else value, origin)


def _left_out(item: object, node: Node) -> bool:
    return isinstance(item, str) and isinstance(node, Leaf) and node.value is None


def merge(weak: Node, strong: Node) -> Node:
    """Lay ``strong`` over ``weak``: mappings key by key, anything else is replaced whole."""
    if isinstance(weak, dict) and isinstance(strong, dict):
        return {
            **weak,
            **{key: merge(weak[key], node) if key in weak else node for key, node in strong.items()},
        }
    if isinstance(weak, Leaf) and isinstance(strong, Leaf):
        return evolve(strong, over=weak)
    return strong


def plain(node: Node) -> object:
    """The data without its origins."""
    if isinstance(node, dict):
        return {key: plain(item) for key, item in node.items()}
    if isinstance(node, list):
        return [plain(item) for item in node]
    return node.value


def leaves(node: Node) -> list[Leaf]:
    """All leaves below a node."""
    if isinstance(node, Leaf):
        return [node]
    items = node.values() if isinstance(node, dict) else node
    return [leaf for item in items for leaf in leaves(item)]


def rank(node: Node) -> Rank:
    """The strongest source below a node."""
    return max((leaf.origin.rank for leaf in leaves(node)), default=Rank.FILE)


def only(node: Node, wanted: Callable[[Leaf], bool]) -> Node | None:
    """The node with the wanted leaves only; None if nothing is left of it."""
    if isinstance(node, Leaf):
        return node if wanted(node) else None
    if isinstance(node, list):
        return node if all(wanted(leaf) for leaf in leaves(node)) else None
    kept = {key: left for key, item in node.items() if (left := only(item, wanted)) is not None}
    return kept or None


def join(path: str, key: str) -> str:
    """The path of ``key`` below ``path``."""
    return f"{path}.{key}" if path else key


def show(value: object, *, secret: bool = False) -> str:
    """A value as people may see it: secrets masked, passwords in URLs too, long ones cut."""
    if isinstance(value, Unset):
        return value.text if not secret else f"${{{value.variable}}}"
    if secret and value is not None:
        return "***"
    if isinstance(value, dict):
        return "a mapping"  # its values may be secrets that nobody has declared yet
    if isinstance(value, list | tuple) and value:
        return "a list"
    if not isinstance(value, str | int | float | bool | None | list | tuple | Path):
        return f"<{type(value).__module__}.{type(value).__qualname__}>"
    text = str(value) if isinstance(value, Path) else repr(value)
    text = _CREDENTIALS.sub(r"\1:***@", text)
    return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 1] + "…"

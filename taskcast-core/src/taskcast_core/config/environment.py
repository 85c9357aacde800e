"""The environment and the flags as configuration.

Every scalar can be set by ``TASKCAST_`` + its path with ``__`` between the levels, each level in camelCase or
UPPER_SNAKE: ``TASKCAST_WORKERS__DEFAULTS__HEARTBEAT_INTERVAL_MS``. Beside that, options name variables of
their own (``option(env="TASKCAST_REDIS_URL")``). Where both are set, the path, being the more exact one,
wins. Empty is unset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import field

from taskcast_core.config.nodes import Leaf, Node, Origin, Rank, merge
from taskcast_core.config.options import wire_name
from taskcast_core.values import frozen

PREFIX = "TASKCAST_"


@frozen
class Surroundings:
    """What a configuration is read in: the environment and the flags of the command line.

    Attributes:
        env: variables. flags: values by path (``workers.enabled``) or by the name of a variable, of which the
            flag is then a stronger form (``TASKCAST_SQLITE_PATH``). A flag that is None was not given.
    """

    env: Mapping[str, str] = field(factory=dict, repr=False)
    flags: Mapping[str, object] = field(factory=dict, repr=False)

    def named(self, names: Iterable[str]) -> Leaf | None:
        """The value of the first of these variables that is set; as flags first."""
        names = tuple(names)
        for name in names:
            if (value := self.flags.get(name)) is not None:
                return Leaf(value, Origin(Rank.FLAG, name))
        for name in names:
            if text := self.env.get(name):
                return Leaf(text, Origin(Rank.ENV, name))
        return None

    def tree(self, scalars: frozenset[str]) -> Node:
        """The values that are set by path. ``scalars`` are the top-level keys that a name without ``__`` may
        mean.
        """
        tree: Node = {}
        for name in sorted(self.env):
            if not name.startswith(PREFIX) or not (text := self.env[name]):
                continue
            keys = [_key(part) for part in name[len(PREFIX) :].split("__")]
            if all(keys) and (len(keys) > 1 or keys[0] in scalars):
                tree = merge(tree, _branch(keys, Leaf(text, Origin(Rank.ENV, name))))
        for path, value in self.flags.items():
            if value is not None and not _is_variable(path):
                tree = merge(tree, _branch(path.split("."), Leaf(value, Origin(Rank.FLAG, path))))
        return tree


def _key(part: str) -> str:
    """One level of a variable's name as the key of a file: ``HEARTBEAT_INTERVAL_MS`` →
    ``heartbeatIntervalMs``.
    """
    return wire_name(part.lower()) if part.isupper() or "_" in part else part


def _is_variable(name: str) -> bool:
    return name.isupper()


def _branch(keys: list[str], leaf: Leaf) -> Node:
    node: Node = leaf
    for key in reversed(keys):
        node = {key: node}
    return node

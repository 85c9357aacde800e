"""Nodes → attrs classes, with every problem reported by its path, and a record of where each value came
from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin

import attrs
from attrs import NOTHING, field

from taskcast_core.config import scalars
from taskcast_core.config.environment import Surroundings
from taskcast_core.config.errors import InvalidConfig, Problem
from taskcast_core.config.fields import argument, init_fields, is_class, reads_without_file, sleeps
from taskcast_core.config.nodes import (
    DEFAULT,
    Leaf,
    Node,
    Origin,
    Rank,
    Unset,
    join,
    leaves,
    merge,
    only,
    plain,
    rank,
    show,
)
from taskcast_core.config.options import Expected, Traits, traits, wire_name
from taskcast_core.config.suggest import did_you_mean
from taskcast_core.values import frozen

T = TypeVar("T")


@frozen
class Setting:
    """One option as it stands, for ``taskcast config check``: value as shown (secrets masked) and source."""

    value: str
    origin: Origin


@frozen
class Scene:
    """What all readings of one configuration share.

    Attributes:
        around: environment and flags. record: path → setting, filled while reading. source: the file's name.
    """

    around: Surroundings
    record: dict[str, Setting] = field(factory=dict, repr=False)
    source: str | None = None


class Options:
    """A part of the configuration whose type is not known yet: the options of one plugin.

    Stays unread until `structure` is called with the plugin's options class, so that an unset ``${VAR}`` in
    the options of something that is not used harms nobody.
    """

    __slots__ = ("_node", "_scene", "path")

    def __init__(self, node: Node | None, path: str, scene: Scene) -> None:
        self._node: Node = {} if node is None else node
        self._scene = scene
        self.path = path

    def __repr__(self) -> str:
        return f"Options({self.path!r}, keys={self.keys()})"

    def keys(self) -> list[str]:
        """The keys that are given; values may be secret, so they are only to be had through `structure`."""
        return list(self._node) if isinstance(self._node, dict) else []

    @property
    def live(self) -> object | None:
        """The live object, or any plain value, that a Python configuration gave in place of a mapping."""
        return self._node.value if isinstance(self._node, Leaf) else None

    def structure(self, cls: type[T]) -> T:
        """Read the options as an instance of the attrs class ``cls``.

        Raises:
            InvalidConfig: an unknown or ill-typed option, a missing one, or an unset variable; all of them
            together.
        """
        reader = Reader(self._scene)
        found = reader.read(cls, self._node, self.path)
        reader.refuse_unknown()
        reader.raise_problems()
        return cast(T, found)

    def without_file(self) -> Options:
        """Only what flags and the environment say: the file's options were written for another provider."""
        kept = only(self._node, lambda leaf: leaf.origin.rank is not Rank.FILE)
        return Options(kept, self.path, self._scene)


_FACTORY: Any = attrs.Factory  # typed as a function for the sake of field definitions; it is a class


class _Rejected(Exception):
    pass


class Reader:
    """Reads any number of classes from one tree; problems and unknown keys add up over all of them."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._known: dict[str, set[str]] = {}
        self._given: dict[str, dict[str, Node]] = {}
        self.problems: list[Problem] = []

    def read(self, cls: type[T], node: Node, path: str) -> T | None:
        """An instance of ``cls``, or None when there was a problem with it."""
        try:
            return self._class(cls, node, path, asleep=False)
        except _Rejected:
            return None

    def raise_problems(self) -> None:
        """Raise what has been found so far, if anything."""
        if self.problems:
            raise InvalidConfig(self.problems, self._scene.source)

    def unknown(self) -> list[tuple[str, str, Node, set[str]]]:
        """Keys that no class has asked for: (path of the mapping, key, what is there, known keys)."""
        return [
            (path, key, node, self._known[path])
            for path, mapping in self._given.items()
            for key, node in mapping.items()
            if key not in self._known[path]
        ]

    def refuse_unknown(self) -> None:
        """Make each unknown key a problem."""
        for path, key, node, known in self.unknown():
            names = sorted(name for name in known if "_" not in name)
            hint = did_you_mean(key, names) or (f"; known are {', '.join(names)}" if names else "; there are none")
            self._note(join(path, key), f"{_where(join(path, key), node)} is not a known option{hint}")

    # ── one attrs class ────────────────────────────────────────────────────────────────────────────────────

    def _class(self, cls: type[T], node: Node, path: str, *, asleep: bool) -> T:
        if isinstance(node, Leaf) and isinstance(node.value, cls):
            self._scene.record[path] = Setting(show(node.value), node.origin)
            return node.value
        fields = sorted(init_fields(cls), key=lambda each: (bool(traits(each).only_if), each.name != "enabled"))
        mapping = self._mapping(fields, node, path)
        known = self._known.setdefault(path, set())
        self._given.setdefault(path, {}).update(mapping)
        bag = next((each for each in fields if traits(each).extras), None)
        values: dict[str, Any] = {}
        failed = False
        for each in fields:
            if each is bag:
                continue
            known.update((wire_name(each.name), each.name, *traits(each).aliases))
            try:
                if (
                    value := self._field(each, mapping, path, asleep=asleep or sleeps(each, fields, values))
                ) is not NOTHING:
                    values[each.name] = value
            except _Rejected:
                failed = True
        if bag is not None:
            rest = {key: item for key, item in mapping.items() if key not in known}
            known.update(rest)
            values[bag.name] = self._extras(bag, rest, path)
        if failed:
            raise _Rejected
        return self._construct(cls, values, path)

    def _mapping(self, fields: Sequence[attrs.Attribute[Any]], node: Node, path: str) -> dict[str, Node]:
        if isinstance(node, dict):
            return node
        if isinstance(node, Leaf):
            if node.value is None:
                return {}
            short = next((each for each in fields if traits(each).shorthand), None)
            if short is not None:
                return {wire_name(short.name): node}
            self._reject_unset(node, path)
        raise self._rejected(path, "a mapping", node)

    def _construct(self, cls: type[T], values: dict[str, Any], path: str) -> T:
        try:
            return cls(**{argument(cls, name): value for name, value in values.items()})
        except (ValueError, TypeError) as error:
            # A condition over several fields, stated by the class itself.
            secrets = [values.get(each.name) for each in init_fields(cls) if traits(each).secret]
            reason = "not valid" if any(secrets) else error  # the reason might quote them
            self._note(path, f"{path or 'the configuration'}: {reason}")
            raise _Rejected from error

    def _extras(self, bag: attrs.Attribute[Any], rest: dict[str, Node], path: str) -> object:
        if bag.type is Options:
            return Options(rest, path, self._scene)
        return {key: Options(node, join(path, key), self._scene) for key, node in rest.items()}

    # ── one field ──────────────────────────────────────────────────────────────────────────────────────────

    def _field(self, each: attrs.Attribute[Any], mapping: Mapping[str, Node], path: str, *, asleep: bool) -> Any:
        """The value, or NOTHING for the default."""
        declared = traits(each)
        path = join(path, wire_name(each.name))
        kind, optional = scalars.bare(each.type or Any)
        node = self._lookup(each, declared, mapping, path)
        if asleep and node is not None:
            node = only(node, lambda leaf: not isinstance(leaf.value, Unset))
        if isinstance(node, Leaf) and node.value is None and not (optional and node.origin.rank is Rank.FILE):
            node = None
        if node is None and is_class(kind) and reads_without_file(kind, self._scene.around):
            node = {}
        if node is None:
            return self._absent(each, declared, path)
        value = self._value(each.type or Any, node, path, declared, asleep=asleep)
        self._validate(each, value, node, path, declared)
        return value

    def _lookup(
        self, each: attrs.Attribute[Any], declared: Traits, mapping: Mapping[str, Node], path: str
    ) -> Node | None:
        """The option's node: all its spellings and variables laid over each other, the strongest on top."""
        keys = dict.fromkeys((wire_name(each.name), each.name, *declared.aliases))
        found = [(key, mapping[key]) for key in keys if key in mapping]
        if len([key for key, node in found if any(leaf.origin.rank is Rank.FILE for leaf in leaves(node))]) > 1:
            message = f"{path} is given twice, as {' and '.join(key for key, _ in found)}"
            self._note(path, message)
            raise _Rejected
        node: Node | None = None
        for _, weaker in sorted(found, key=lambda item: rank(item[1])):
            node = weaker if node is None else merge(node, weaker)
        named = self._scene.around.named(declared.env)
        if named is not None and (node is None or rank(node) < named.origin.rank):
            node = named if node is None else merge(node, named)
        return node

    def _absent(self, each: attrs.Attribute[Any], declared: Traits, path: str) -> Any:
        if each.default is NOTHING:
            variables = f" (or {' or '.join(declared.env)})" if declared.env else ""
            expected = scalars.describe(each.type or Any)
            self._note(path, f"{path}{variables} is required: {expected}", expected=expected)
            raise _Rejected
        default: Any = each.default
        if isinstance(default, _FACTORY):
            default = None if default.takes_self else default.factory()
        self._record_defaults(default, path, declared)
        return NOTHING

    def _record_defaults(self, value: object, path: str, declared: Traits) -> None:
        if attrs.has(type(value)):
            for each in init_fields(type(value)):
                item = getattr(value, each.name)
                self._record_defaults(item, join(path, wire_name(each.name)), traits(each))
        else:
            self._scene.record[path] = Setting(show(value, secret=declared.secret), DEFAULT)

    def _validate(self, each: attrs.Attribute[Any], value: object, node: Node, path: str, declared: Traits) -> None:
        """Ask the field's validator before the object exists, so that the answer is about this path."""
        if each.validator is None:
            return
        try:
            each.validator(None, each, value)
        except (ValueError, TypeError) as error:
            if isinstance(error, Expected):
                raise self._rejected(path, str(error), node, declared) from error
            reason = error.args[0] if error.args and not declared.secret else "not valid"
            self._note(path, f"{_where(path, node)}: {reason}", value=show(value, secret=declared.secret))
            raise _Rejected from error
        except AttributeError:
            return  # it looks at its siblings; the constructor asks it again

    # ── one value ──────────────────────────────────────────────────────────────────────────────────────────

    def _value(self, kind: Any, node: Node, path: str, declared: Traits, *, asleep: bool) -> Any:
        kind, _ = scalars.bare(kind)
        if kind is Options:
            return Options(node, path, self._scene)
        if kind is Leaf and isinstance(node, Leaf):
            self._reject_unset(node, path)
            self._scene.record[path] = Setting(show(node.value, secret=declared.secret), node.origin)
            return node
        if is_class(kind):
            if isinstance(node, Leaf) and node.value is None:
                return None
            return self._class(kind, node, path, asleep=asleep)
        for leaf in leaves(node):
            self._reject_unset(leaf, path)
        origin, arguments = get_origin(kind), get_args(kind)
        if isinstance(node, Leaf) and node.value is None:
            self._scene.record[path] = Setting(show(None), node.origin)
            return None
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return self._each_of_mapping(arguments[1], node, path, declared, asleep=asleep)
        if isinstance(origin, type) and issubclass(origin, Sequence | set | frozenset):
            return self._each_of_list(origin, kind, arguments[0], node, path, declared, asleep=asleep)
        if not isinstance(node, Leaf):
            if kind in (Any, object, dict, list):
                return plain(node)
            raise self._rejected(path, scalars.describe(kind), node, declared)
        return self._scalar(kind, node, path, declared)

    def _scalar(self, kind: Any, leaf: Leaf, path: str, declared: Traits) -> Any:
        try:
            value = leaf.value if kind is Any else scalars.structure(leaf.value, kind)
        except Exception as error:
            expected = declared.expected or scalars.describe(kind)
            raise self._rejected(path, expected, leaf, declared) from error
        if isinstance(value, Path) and leaf.origin.base:
            value = leaf.origin.base / value
        self._scene.record[path] = Setting(show(value, secret=declared.secret), leaf.origin)
        return value

    def _each_of_list(
        self, origin: type, kind: Any, item: Any, node: Node, path: str, declared: Traits, *, asleep: bool
    ) -> Any:
        if isinstance(node, Leaf) and isinstance(node.value, str) and not attrs.has(item):
            parts = (part.strip() for part in node.value.split(","))
            node = [Leaf(part, node.origin) for part in parts if part]
        if not isinstance(node, list):
            raise self._rejected(path, scalars.describe(kind), node, declared)
        make: Callable[[list[Any]], Any] = origin if origin in (tuple, set, frozenset) else list
        each = ((f"{path}[{at}]", item, part) for at, part in enumerate(node))
        return make([value for _, value in self._all(each, declared, asleep=asleep)])

    def _each_of_mapping(self, item: Any, node: Node, path: str, declared: Traits, *, asleep: bool) -> Any:
        if not isinstance(node, dict):
            raise self._rejected(path, "a mapping", node, declared)
        each = ((join(path, key), item, part) for key, part in node.items())
        values = self._all(each, declared, asleep=asleep)
        return dict(zip(node, (value for _, value in values), strict=True))

    def _all(self, items: Any, declared: Traits, *, asleep: bool) -> list[tuple[str, Any]]:
        """Read every item, so that all problems are found, then give up if there was one."""
        values: list[tuple[str, Any]] = []
        failed = False
        for path, kind, node in items:
            try:
                values.append((path, self._value(kind, node, path, declared, asleep=asleep)))
            except _Rejected:
                failed = True
        if failed:
            raise _Rejected
        return values

    # ── problems ───────────────────────────────────────────────────────────────────────────────────────────

    def _note(self, path: str, message: str, **facts: str | None) -> None:
        self.problems.append(Problem(path, message, **facts))

    def _reject_unset(self, leaf: Leaf, path: str) -> None:
        if isinstance(leaf.value, Unset):
            variable = leaf.value.variable
            self._note(path, f"{path}: the environment variable {variable} is not set", variable=variable)
            raise _Rejected

    def _rejected(
        self,
        path: str,
        expected: str,
        node: Node,
        declared: Traits | None = None,
    ) -> _Rejected:
        """Note that the value does not fit; the caller raises what comes back."""
        value = show(plain(node), secret=declared is not None and declared.secret)
        where = _where(path, node)
        self._note(path, f"{where} must be {expected}, not {value}", value=value, expected=expected)
        return _Rejected()


def _where(path: str, node: Node) -> str:
    """How to name an option in a message: by the variable, if that is what set it."""
    if isinstance(node, Leaf) and node.origin.rank is Rank.ENV:
        return f"{node.origin.name} ({path})"
    return path or "the configuration"

"""Questions about the fields of an options class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from attrs import NOTHING

from taskcast_core.config import scalars
from taskcast_core.config.environment import Surroundings
from taskcast_core.config.nodes import Leaf
from taskcast_core.config.options import traits


def sleeps(each: attrs.Attribute[Any], fields: Sequence[attrs.Attribute[Any]], values: Mapping[str, Any]) -> bool:
    """Whether the option that this one depends on is off; siblings are read before their dependants."""
    switch = traits(each).only_if or "enabled"
    if each.name == switch:
        return False
    for sibling in fields:
        if sibling.name == switch:
            return not values.get(switch, None if sibling.default is NOTHING else sibling.default)
    return False


def is_class(kind: Any) -> bool:
    """Whether a field of this type is read as a mapping with fields of its own."""
    return attrs.has(kind) and kind is not Leaf


def reads_without_file(cls: type, around: Surroundings, seen: frozenset[type] = frozenset()) -> bool:
    """Whether there is something to read for this class, or one inside it, although the file does not mention
    it.
    """
    for each in init_fields(cls):
        kind, _ = scalars.bare(each.type)
        if traits(each).extras or around.named(traits(each).env) is not None:
            return True
        if is_class(kind) and kind not in seen and reads_without_file(kind, around, seen | {cls}):
            return True
    return False


def init_fields(cls: type) -> list[attrs.Attribute[Any]]:
    """The fields that the constructor takes, with their types resolved."""
    return [each for each in attrs.fields(attrs.resolve_types(cls)) if each.init]


def argument(cls: type, name: str) -> str:
    """What the constructor calls this field."""
    return next(each.alias or name for each in attrs.fields(cls) if each.name == name)

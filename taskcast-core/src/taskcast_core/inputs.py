"""From what a caller hands over to a checked model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

import attrs

from taskcast_core import wire
from taskcast_core.errors import InvalidInput
from taskcast_core.models import TaskInput

T = TypeVar("T", bound=attrs.AttrsInstance)
_PLAIN = (str, int, bool, NoneType)


def as_model(cls: type[T], value: object, fields: Mapping[str, Any], path: str = "") -> T:
    """A model from one of its kind, from a mapping in wire names, or from keyword arguments.

    Raises:
        InvalidInput: with the path of each fault. TypeError: a keyword that the model has no field for.
    """
    if not fields and isinstance(value, cls):
        check_numbers(value, path)
        return value
    if unknown := fields.keys() - attrs.fields_dict(cls).keys():
        raise TypeError(f"unexpected keyword argument {min(unknown)!r}")
    base: dict[str, Any] = dict(value) if isinstance(value, Mapping) else wire.to_wire(value) if value else {}
    for name, given in fields.items():
        base[wire.camel(name)] = wire.to_wire(given)
    try:
        model = wire.from_wire(base, cls)
    except InvalidInput as error:
        raise InvalidInput(
            [(path + ("." if path and where else "") + where, why) for where, why in error.details]
        ) from None
    check_numbers(model, path)
    return model


def check_numbers(model: attrs.AttrsInstance, path: str) -> None:
    """JSON has neither NaN nor infinities, and an encoder in a hurry would make null of them.

    Raises:
        InvalidInput: with the path of each.
    """
    found: list[str] = []
    try:
        _find_others(model, path, found)
    except RecursionError:
        raise InvalidInput([(path, "is nested too deep")]) from None
    if found:
        raise InvalidInput([(each, "expected a finite number") for each in found])


def _find_others(value: object, path: str, found: list[str]) -> None:
    """Note where there are floats that are no numbers."""
    if isinstance(value, float):
        if not math.isfinite(value):
            found.append(path)
    elif isinstance(value, list | tuple):
        for at, each in enumerate(value):
            if not isinstance(each, _PLAIN):
                _find_others(each, f"{path}[{at}]", found)
    else:
        items = value.items() if isinstance(value, Mapping) else _fields(value)
        for name, each in items:
            if not isinstance(each, _PLAIN):
                _find_others(each, f"{path}.{name}" if path else str(name), found)


def _fields(value: Any) -> list[tuple[str, object]]:
    return [(shown, getattr(value, name)) for name, shown in _names(type(value))]  # type: ignore[arg-type] # a class has a hash


@cache
def _names(cls: type) -> tuple[tuple[str, str], ...]:
    """The fields of a model that may hold floats, in Python and on the wire."""
    if not attrs.has(cls):
        return ()
    fields = attrs.fields(attrs.resolve_types(cls))
    return tuple((each.name, wire.camel(each.name)) for each in fields if _may_hold_floats(each.type))


def _may_hold_floats(kind: object) -> bool:
    if kind in _PLAIN or kind is Ellipsis or get_origin(kind) is Literal:
        return False
    inner = get_args(kind)
    return any(map(_may_hold_floats, inner)) if inner else True


def check_task_input(given: TaskInput) -> None:
    """What a type cannot say about the input of a new task.

    Raises:
        InvalidInput.
    """
    check_positive(given.ttl, "ttl")
    check_positive(given.cost, "cost")
    if given.id == "":
        raise InvalidInput([("id", "must not be empty")])


def check_positive(value: int | None, path: str) -> None:
    """Raise InvalidInput if a number is given and not positive."""
    if value is not None and value <= 0:
        raise InvalidInput([(path, "expected a positive integer")])

"""From what a caller hands over to a checked model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from taskcast_core import wire
from taskcast_core.errors import InvalidInput
from taskcast_core.models import TaskInput

T = TypeVar("T", bound=attrs.AttrsInstance)


def as_model(cls: type[T], value: object, fields: Mapping[str, Any], path: str = "") -> T:
    """A model from one of its kind, from a mapping in wire names, or from keyword arguments.

    Raises:
        InvalidInput: with the path of each fault. TypeError: a keyword that the model has no field for.
    """
    if not fields and isinstance(value, cls):
        return value
    if unknown := fields.keys() - attrs.fields_dict(cls).keys():
        raise TypeError(f"unexpected keyword argument {min(unknown)!r}")
    base: dict[str, Any] = dict(value) if isinstance(value, Mapping) else wire.to_wire(value) if value else {}
    for name, given in fields.items():
        base[wire.camel(name)] = wire.to_wire(given)
    try:
        return wire.from_wire(base, cls)
    except InvalidInput as error:
        raise InvalidInput(
            [(path + ("." if path and where else "") + where, why) for where, why in error.details]
        ) from None


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

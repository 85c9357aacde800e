"""Models as JSON and back: snake_case here, camelCase on the wire.

Reading is lenient: unknown keys are ignored, unknown words kept, so that a newer server does not break an older client.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar, get_origin

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from taskcast_client.errors import InvalidReply
from taskcast_client.models import JsonObject

T = TypeVar("T")

_ALWAYS_PRESENT = {"EventInput": {"level", "data"}, "Event": {"level", "data"}, "BlockedRequest": {"data"}}


@cache
def camel(name: str) -> str:
    """``created_at`` → ``createdAt``."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _structure(cls: type[Any]) -> Any:
    attrs.resolve_types(cls)
    return make_dict_structure_fn(
        cls,
        _converter,
        **{each.name: override(rename=camel(each.name)) for each in attrs.fields(cls)},  # type: ignore[arg-type]
    )


def _unstructure(cls: type[Any]) -> Any:
    attrs.resolve_types(cls)
    always = _ALWAYS_PRESENT.get(cls.__name__, set())
    overrides = {
        each.name: override(
            rename=camel(each.name), omit_if_default=each.default is not attrs.NOTHING and each.name not in always
        )
        for each in attrs.fields(cls)
    }
    return make_dict_unstructure_fn(cls, _converter, **overrides)  # type: ignore[arg-type]


def _integer(value: Any, _: object) -> int:
    """Some servers write times as 1700000000000.0; JSON has one kind of number."""
    return int(value)


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


_converter = Converter(detailed_validation=False)
_converter.register_structure_hook(int, _integer)
_converter.register_structure_hook_func(_is_literal, lambda value, _: value)
_converter.register_structure_hook_func(lambda kind: kind == JsonObject, lambda value, _: dict(value))
_converter.register_structure_hook_factory(attrs.has, _structure)
_converter.register_unstructure_hook_factory(attrs.has, _unstructure)


def from_wire(kind: type[T], value: Any) -> T:
    """Read decoded JSON.

    Raises:
        InvalidReply: it is not of this kind.
    """
    try:
        return _converter.structure(value, kind)
    except Exception as error:  # cattrs tells of a wrong shape by whatever the shape makes fail
        raise InvalidReply(f"not a {kind.__name__}: {error!r}") from error


def to_wire(value: Any) -> Any:
    """A model, or a list of models, as JSON values with wire names; plain JSON is passed on as it is."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return [to_wire(each) for each in value]
    return _converter.unstructure(value) if attrs.has(type(value)) else value


def dumps(value: Any) -> bytes:
    """Compact JSON. Text that JavaScript cut between UTF-16 units (lone surrogates) survives as escapes.

    Raises:
        ValueError, TypeError: it has no JSON form.
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def loads(text: str | bytes) -> Any:
    """Read JSON.

    Raises:
        InvalidReply: it is none.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidReply(f"malformed JSON: {error}") from error

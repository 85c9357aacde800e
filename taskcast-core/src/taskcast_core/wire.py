"""Models ↔ the camelCase JSON of the wire: absent fields omitted, opaque JSON kept exactly, strict types in.

orjson does the work. What it refuses although JSON allows it (lone surrogates, which JavaScript producers make by
cutting text between UTF-16 units) takes a slower path through the standard library. Integers beyond 64 bits become the
nearest double, which is what every JavaScript client would make of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

import attrs
import orjson

from taskcast_core import models
from taskcast_core.errors import InvalidInput

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def dumps(value: Any) -> bytes:
    """Compact JSON text.

    Raises:
        InvalidInput: the value is not JSON (a NaN, an object of no JSON type, too deeply nested).
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return _dumps_slowly(value)


def _dumps_slowly(value: Any) -> bytes:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False, default=_plain).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"not a JSON value: {error}") from error


def _plain(value: Any) -> Any:
    """What orjson knows and the standard library does not; only reached on the slow path."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def loads(text: bytes | bytearray | memoryview | str) -> Any:
    """Read JSON text; lone surrogates survive.

    Raises:
        InvalidInput: malformed JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _loads_slowly(text)


def loads_each(texts: Sequence[bytes]) -> list[Any]:
    """``loads`` for many texts, quicker. Raises as ``loads`` does for the first one that it fails for."""
    try:
        return list(map(orjson.loads, texts))
    except orjson.JSONDecodeError:
        return [loads(text) for text in texts]


def _loads_slowly(text: bytes | bytearray | memoryview | str) -> Any:
    try:
        raw = text if isinstance(text, str) else bytes(text).decode("utf-8")
        return json.loads(raw, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"malformed JSON: {error}") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"number out of range: {text}")
    return value


# ── Models ────────────────────────────────────────────────────────────────────────────────────────────────────────

Fault = tuple[str, str]
"""Where (a path in wire names) and what was expected there."""

_ALWAYS_PRESENT: dict[type, frozenset[str]] = {
    models.BlockedRequest: frozenset({"data"}),
    models.EventDraft: frozenset({"level", "data"}),
    models.Event: frozenset({"data"}),
    models.TaskArchive: frozenset({"version", "schema"}),
    models.RetryPolicy: frozenset({"backoff", "delay_ms", "max_delay_ms"}),
}
_CAMEL: dict[str, str] = {}


def camel(name: str) -> str:
    """``created_at`` → ``createdAt``."""
    if name not in _CAMEL:
        head, *rest = name.split("_")
        _CAMEL[name] = head + "".join(part.capitalize() for part in rest)
    return _CAMEL[name]


def _string(value: Any, _: Any = None) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a string")
    return value


def _boolean(value: Any, _: Any = None) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _integer(value: Any, _: Any = None) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)  # JSON has one kind of number: 1.0 is 1
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("expected an integer")
    return value


def _number(value: Any, _: Any = None) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected a number")
    return value


def _object(value: Any, _: Any = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return value


def _literal(value: Any, wanted: Any) -> Any:
    if not isinstance(value, str) or value not in get_args(wanted):
        raise ValueError("expected one of " + ", ".join(map(str, get_args(wanted))))
    return value


def _tuple(value: Any, wanted: Any, converter: Converter) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list")
    member = get_args(wanted)[0]
    out: list[Any] = []
    faults: list[Fault] = []
    for position, item in enumerate(value):
        try:
            out.append(converter.structure(item, member))
        except (InvalidInput, ValueError) as error:
            faults += _at(error, f"[{position}]")
    if faults:
        raise InvalidInput(faults)
    return tuple(out)


def _at(error: Exception, where: str) -> list[Fault]:
    """The faults inside one structuring error, each with its path from here."""
    if isinstance(error, InvalidInput):
        return [(_join(where, path), reason) for path, reason in error.details]
    return [(where, str(error))]


def _join(where: str, path: str) -> str:
    if not path or path.startswith("["):
        return where + path
    return f"{where}.{path}" if where else path


def _structure_hook(cls: type[Any], converter: Converter) -> Callable[[Any, Any], Any]:
    """Reads an object into an attrs class: unknown keys are ignored, ``null`` is absent, all faults are reported."""
    attrs.resolve_types(cls)
    plan = [
        (camel(a.name), a.name, _without_none(a.type), a.default is attrs.NOTHING, a.type is Any)
        for a in attrs.fields(cls)
    ]

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("expected an object")
        arguments: dict[str, Any] = {}
        faults: list[Fault] = []
        for wire_name, name, kind, is_required, is_any in plan:
            given = value.get(wire_name)
            if is_any:
                arguments[name] = given
            elif given is not None:
                try:
                    arguments[name] = converter.structure(given, kind)
                except (InvalidInput, ValueError) as error:
                    faults += _at(error, wire_name)
            elif is_required:
                faults.append((wire_name, "is required"))
        if faults:
            raise InvalidInput(faults)
        return cls(**arguments)

    return structure


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        members = [member for member in get_args(kind) if member is not NoneType]
        return members[0] if len(members) == 1 else Union[tuple(members)]  # noqa: UP007 - built at run time
    return kind


def _unstructure_hook(cls: type[Any], converter: Converter) -> Callable[[Any], dict[str, Any]]:
    from cattrs.gen import make_dict_unstructure_fn, override

    attrs.resolve_types(cls)
    always = _ALWAYS_PRESENT.get(cls, frozenset())
    overrides = {
        a.name: override(
            rename=camel(a.name),
            omit_if_default=a.name not in always and a.default is not attrs.NOTHING,
            unstruct_hook=_as_is if _without_none(a.type) in (Any, dict[str, Any], str, int, float, bool) else None,
        )
        for a in attrs.fields(cls)
    }
    return make_dict_unstructure_fn(cls, converter, **overrides)  # type: ignore[arg-type]


def _is_generic(kind: Any, of: Any) -> bool:
    return bool(get_origin(kind) is of)


def _as_is(value: Any) -> Any:
    return value


@cache
def _converter() -> Converter:
    from cattrs import Converter  # with the first model: neither an import nor the start of a server has one

    converter = Converter(detailed_validation=False)
    for kind, hook in ((str, _string), (bool, _boolean), (int, _integer), (float, _number)):
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_func(lambda t: t == dict[str, Any], _object)
    converter.register_structure_hook_func(lambda t: _is_generic(t, Literal), _literal)
    converter.register_structure_hook_func(
        lambda t: _is_generic(t, tuple), lambda value, t: _tuple(value, t, converter)
    )
    converter.register_structure_hook(
        tuple[models.SeriesMode, ...] | models.SeriesMode,
        lambda value, _: (
            _literal(value, models.SeriesMode)
            if isinstance(value, str)
            else _tuple(value, tuple[models.SeriesMode, ...], converter)
        ),
    )
    converter.register_structure_hook_factory(attrs.has, lambda cls: _structure_hook(cls, converter))
    converter.register_unstructure_hook_factory(attrs.has, lambda cls: _unstructure_hook(cls, converter))
    return converter


def from_wire(value: Any, cls: type[T]) -> T:
    """Read a decoded JSON value into a model.

    Raises:
        InvalidInput: with every fault's path (wire names) and what was expected.
    """
    try:
        return _converter().structure(value, cls)
    except ValueError as error:
        raise InvalidInput([("", str(error))]) from error


def to_wire(model: Any) -> Any:
    """A model as a JSON value with wire names; unset fields are omitted."""
    return _converter().unstructure(model)


def encode(model: Any) -> bytes:
    """A model as JSON text."""
    return dumps(to_wire(model))


def decode(text: bytes | str, cls: type[T]) -> T:
    """``encode`` read back.

    Raises:
        InvalidInput: malformed, or not such a model.
    """
    return from_wire(loads(text), cls)

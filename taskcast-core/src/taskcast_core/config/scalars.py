"""Single values: text from the environment or a file → the type of an option, strictly, and the words for
what is expected.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import attrs

_INTEGER = re.compile(r"[+-]?\d+")
_WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def structure(value: object, kind: Any) -> Any:
    """Make ``value`` a ``kind``.

    A whole number, a number or a truth value may also be given as text, since variables have no other form.
    Nothing else is
    converted: a number is not a text, 1.0 not an integer, 1 not a truth value.

    Raises:
        ValueError, TypeError: it is none.
    """
    if get_origin(kind) in (Union, UnionType):
        return _first_of(value, get_args(kind))
    if isinstance(kind, type) and not issubclass(kind, Enum) and kind not in _PLAIN:
        return _instance(value, kind)
    if get_origin(kind) is not None and get_origin(kind) is not Literal:
        return value if callable(value) else _refuse()
    if get_origin(kind) is Literal:
        return value if value in get_args(kind) else _refuse()
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    return _PLAIN[kind](value)


def bare(kind: Any) -> tuple[Any, bool]:
    """The type without ``Annotated`` and ``None``, and whether None was allowed."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) not in (Union, UnionType):
        return kind, False
    members = [each for each in get_args(kind) if each is not NoneType]
    optional = len(members) < len(get_args(kind))
    return (members[0] if len(members) == 1 else Union[tuple(members)]), optional  # noqa: UP007 - built at run time


def describe(kind: Any) -> str:
    """A type in words: ``an integer``, ``one of debug, info``, ``a list of text``."""
    kind, _ = bare(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(str(each) for each in arguments)
    if origin in (Union, UnionType):
        return " or ".join(describe(each) for each in arguments)
    if isinstance(origin, type) and issubclass(origin, dict):
        return "a mapping"
    if isinstance(origin, type) and issubclass(origin, list | tuple | set | frozenset):
        return f"a list of {describe(arguments[0])}"
    if origin is not None:
        return "a callable"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(str(each.value) for each in kind)
    if attrs.has(kind) or kind is dict:
        return "a mapping"
    return _WORD_FOR.get(kind) or f"a live {getattr(kind, '__name__', kind)} (from a Python configuration)"


_WORD_FOR = {
    int: "an integer", float: "a number", bool: "true or false", str: "text (in quotes)", Path: "a path",
    list: "a list", Any: "a value", object: "a value",
}  # fmt: skip


def _integer(value: object) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else _refuse()


def _number(value: object) -> float:
    number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    return number if math.isfinite(number) else _refuse()


def _truth(value: object) -> bool:
    if isinstance(value, str):
        return _WORDS[low] if (low := value.strip().lower()) in _WORDS else _refuse()
    return value if isinstance(value, bool) else _refuse()


def _text(value: object) -> str:
    return value if isinstance(value, str) else _refuse()


def _path(value: object) -> Path:
    return Path(value).expanduser() if isinstance(value, str | Path) and str(value) else _refuse()


def _first_of(value: object, kinds: tuple[Any, ...]) -> Any:
    for kind in kinds:
        if isinstance(kind, type) and type(value) is kind:
            return value
    for kind in kinds:
        try:
            return structure(value, kind)
        except (ValueError, TypeError, KeyError):
            continue
    return _refuse()


def _instance(value: object, kind: type) -> Any:
    if getattr(kind, "_is_protocol", False) and not getattr(kind, "_is_runtime_protocol", False):
        return value  # nothing can be asked of it here
    return value if isinstance(value, kind) else _refuse()


def _refuse() -> Any:
    raise ValueError("not of the expected type")


_PLAIN: dict[Any, Callable[[object], Any]] = {
    int: _integer,
    float: _number,
    bool: _truth,
    str: _text,
    Path: _path,
    object: lambda value: value,
}

"""How an attrs class declares its options: environment names, other spellings, secrets, bounds.

::

    @frozen
    class RedisOptions:
        url: str = option(env="TASKCAST_REDIS_URL", secret=True, help="where Redis listens")
        max_connections: int = option(50, minimum=1)

A field ``max_connections`` is the key ``maxConnections`` in files. Plain ``attrs`` fields work as well;
``option`` only adds what a plain field cannot say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import attrs
from attrs import NOTHING

from taskcast_core.values import frozen

_KEY = "taskcast.option"


@frozen
class Traits:
    """What is known of one option beyond its type and default.

    Attributes:
        env: variables that set it, besides ``TASKCAST_`` + path. aliases: other keys for it in files.
        secret: never shown. only_if: the sibling that must be true for this option to be of use; while it is
            not, an unset ``${VAR}`` here is nobody's problem (``enabled`` does so for all its siblings).
        extras: this field takes the keys that no other field knows. shorthand: a plain value in place of the
            whole mapping stands for this field.
        expected: what to say is expected, where the type does not say enough.
        help: one line for the reference.
    """

    env: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    secret: bool = False
    only_if: str | None = None
    extras: bool = False
    shorthand: bool = False
    expected: str | None = None
    help: str = ""


SECRET: Mapping[str, Any] = MappingProxyType({_KEY: Traits(secret=True)})
"""Metadata that marks a plain attrs field as secret: ``attrs.field(repr=False, metadata=SECRET)``."""

_NO_TRAITS = Traits()


class Expected(ValueError):
    """Raised by a validator to say what it expects: ``raise Expected("the name of a provider")``."""


@frozen
class Bounds:
    """An attrs validator: a number between two bounds, both included; None passes where the field allows
    it.
    """

    minimum: float | None = None
    maximum: float | None = None

    @property
    def expected(self) -> str:
        """For messages: ``a positive integer``, ``at least 0``, ``from 0 to 65535``."""
        if self.maximum is None:
            return "a positive integer" if self.minimum == 1 else f"at least {self.minimum}"
        return f"at most {self.maximum}" if self.minimum is None else f"from {self.minimum} to {self.maximum}"

    def __call__(self, _instance: object, _attribute: object, value: Any) -> None:
        """Refuse a number out of bounds."""
        if value is None:
            return
        too_small = self.minimum is not None and value < self.minimum
        if too_small or (self.maximum is not None and value > self.maximum):
            raise Expected(self.expected)


def option(
    default: Any = NOTHING,
    *,
    factory: Callable[[], Any] | None = None,
    env: str | tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
    secret: bool = False,
    only_if: str | None = None,
    extras: bool = False,
    shorthand: bool = False,
    minimum: float | None = None,
    maximum: float | None = None,
    validator: Callable[[Any, Any, Any], None] | None = None,
    help: str = "",
) -> Any:
    """An attrs field with the traits of an option; see `Traits` and `Bounds` for the arguments."""
    if minimum is not None or maximum is not None:
        validator = Bounds(minimum, maximum)
    declared = Traits(
        env=(env,) if isinstance(env, str) else env,
        aliases=aliases,
        secret=secret,
        only_if=only_if,
        extras=extras,
        shorthand=shorthand,
        expected=validator.expected if isinstance(validator, Bounds) else None,
        help=help,
    )
    return attrs.field(
        default=attrs.Factory(factory) if factory else default,
        validator=validator,
        repr=_masked if secret else True,
        metadata={_KEY: declared},
    )


def traits(attribute: attrs.Attribute[Any]) -> Traits:
    """The traits that a field was declared with."""
    found: Traits = attribute.metadata.get(_KEY, _NO_TRAITS)
    return found


@cache
def wire_name(name: str) -> str:
    """``heartbeat_interval_ms`` → ``heartbeatIntervalMs``."""
    head, *rest = name.strip("_").split("_")
    return head + "".join(part.capitalize() for part in rest)


def _masked(value: object) -> str:
    return "None" if value is None else "'***'"

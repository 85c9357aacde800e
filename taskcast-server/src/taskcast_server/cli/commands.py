"""Commands made from functions: a function's parameters become the arguments and options of a `click` command.

The annotation says what the text of the command line is made into: str, int, float, bool (a flag), Path, an enumeration
or a Literal of strings (one of these words), or a list of any of them; each may be ``| None``. A parameter without a
default is an argument, any other an option; `argument` and `option`, in an ``Annotated``, say more about it.
"""

from __future__ import annotations

import inspect
import signal
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click

from taskcast_core.values import frozen

_EMPTY = inspect.Parameter.empty
_TYPES: dict[Any, click.ParamType[Any]] = {
    str: click.STRING, int: click.INT, float: click.FLOAT, bool: click.BOOL, Path: click.Path(path_type=Path),
}  # fmt: skip


@frozen
class Declared:
    """What is said of a parameter besides its type.

    Attributes:
        names: of an option, dashes included. settings: for the parameter of `click`.
        min, max: bounds of a number, both allowed themselves.
    """

    is_option: bool
    names: tuple[str, ...]
    settings: Mapping[str, Any]
    min: float | None = None
    max: float | None = None


def option(
    *names: str, help: str | None = None, min: float | None = None, max: float | None = None, hidden: bool = False
) -> Declared:
    """Declare an option; its name is the parameter's unless there are ``names``."""
    return Declared(is_option=True, names=names, settings={"help": help, "hidden": hidden}, min=min, max=max)


def argument(*, help: str | None = None, metavar: str | None = None) -> Declared:
    """Declare an argument; ``metavar`` is its name in the help."""
    return Declared(is_option=False, names=(), settings={"help": help, "metavar": metavar})


class Command(click.Command):
    """A command with the parameters of its function.

    Raises:
        TypeError: the function has a parameter that cannot be given on a command line.
    """

    def __init__(
        self, name: str | None, callback: Callable[..., object], params: Sequence[click.Parameter] = (), **rest: Any
    ) -> None:
        declared = inspect.signature(callback, eval_str=True).parameters.values()
        super().__init__(name, callback=callback, params=[*map(_click_parameter, declared), *params], **rest)

    def invoke(self, ctx: click.Context) -> object:
        """Call the function. Ctrl-C ends it without a word, with the exit status that shells give it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(128 + signal.SIGINT) from None


class Group(click.Group):
    """Commands under one name; ``@group.command()`` adds a function."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which they were added."""
        return list(self.commands)


def _click_parameter(parameter: inspect.Parameter) -> click.Parameter:
    annotation, declared = parameter.annotation, None
    if get_origin(annotation) is Annotated:
        annotation, *said = get_args(annotation)
        declared = next((each for each in said if isinstance(each, Declared)), None)
    if declared is None:
        declared = argument() if parameter.default is _EMPTY else option()
    kind = _without_none(annotation)
    is_list = get_origin(kind) is list
    settings = {**declared.settings, "required": parameter.default is _EMPTY}
    if parameter.default is not _EMPTY:
        settings["default"] = parameter.default.value if isinstance(parameter.default, Enum) else parameter.default
    if is_list:
        (kind,) = get_args(kind)
        settings["callback"] = _as_list
    settings["type"] = _click_type(parameter.name, kind, declared)
    if not declared.is_option:
        return click.Argument([parameter.name], nargs=-1 if is_list else 1, **settings)
    if kind is bool:
        settings["is_flag"] = True
    names = declared.names or _names(parameter.name, is_flag=kind is bool)
    return click.Option([parameter.name, *names], multiple=is_list, show_default=True, **settings)


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    kinds = [each for each in get_args(annotation) if each is not NoneType]
    return kinds[0] if len(kinds) == 1 else annotation


def _click_type(name: str, kind: Any, declared: Declared) -> click.ParamType[Any]:
    if declared.min is not None or declared.max is not None:
        bounded = click.IntRange if kind is int else click.FloatRange
        return bounded(declared.min, declared.max)  # type: ignore[arg-type]  # whole numbers for an int
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _Member(kind)
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    try:
        return click.STRING if kind is _EMPTY else _TYPES[kind]
    except (KeyError, TypeError):
        raise TypeError(f"a command line has no text for the parameter {name}: {kind}") from None


def _names(parameter: str, *, is_flag: bool) -> tuple[str, ...]:
    name = parameter.replace("_", "-")
    return (f"--{name}/--no-{name}",) if is_flag else (f"--{name}",)


def _as_list(context: click.Context, parameter: click.Parameter, given: Sequence[object] | None) -> list[object] | None:
    """What was given, where a function expects a list; nothing is what the function's default says."""
    return list(given) if given else parameter.get_default(context)


class _Member(click.Choice[str]):
    """One of the values of an enumeration, which becomes its member."""

    def __init__(self, enumeration: type[Enum]) -> None:
        super().__init__([str(each.value) for each in enumeration])
        self._members = {str(each.value): each for each in enumeration}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._members[super().convert(value, param, ctx)]

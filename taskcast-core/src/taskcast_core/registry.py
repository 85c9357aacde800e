"""Named, lazily imported factories: what the registration hooks fill and the configuration chooses from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import Any

import attrs

from taskcast_core.config import InvalidConfig, Options, Problem, did_you_mean
from taskcast_core.errors import PluginError
from taskcast_core.values import frozen

Factory = Callable[..., AbstractAsyncContextManager[Any]]


@frozen
class Provider:
    """One named thing that a plugin offers.

    Attributes:
        kind: what it is (``broadcast`` …). name: as the configuration calls it.
        target: ``module:attribute`` of the factory, or the factory itself.
        options_class: the attrs class of its options; None if it has none.
        distribution: who registered it. chosen_by: a variable whose presence chooses it.
    """

    kind: str
    name: str
    target: str | Factory
    options_class: type[Any] | None
    distribution: str
    chosen_by: str | None = None

    @property
    def location(self) -> str:
        """``module:attribute``, for people."""
        if isinstance(self.target, str):
            return self.target
        return f"{self.target.__module__}:{getattr(self.target, '__qualname__', type(self.target).__qualname__)}"

    def read_options(self, options: Options) -> object:
        """The options as this provider's options class; None if it has none.

        Raises:
            InvalidConfig: unknown, missing or ill-typed options, with their paths.
        """
        if self.options_class is not None:
            return options.structure(self.options_class)
        options.structure(_NoOptions)
        return None

    def open(self, options: object = None, context: object = None) -> AbstractAsyncContextManager[Any]:
        """Import the factory and call it with as many of ``(options, context)`` as it takes.

        Raises:
            PluginError: it cannot be imported, or does not give an async context manager.
        """
        factory = self._factory()
        accepted = _positional(factory)
        opened = factory(*(options, context)[:accepted])
        if not isinstance(opened, AbstractAsyncContextManager):
            raise PluginError(f"{self._described()} must return an async context manager, not {type(opened).__name__}")
        return opened

    def _factory(self) -> Factory:
        if not isinstance(self.target, str):
            return self.target
        module, _, attribute = self.target.partition(":")
        try:
            found: object = import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except (Exception, SystemExit) as error:
            raise PluginError(f"{self._described()} cannot be loaded: {type(error).__name__}: {error}") from error
        if not callable(found):
            raise PluginError(f"{self._described()} is not callable")
        return found

    def _described(self) -> str:
        return f'the {self.kind} "{self.name}" of {self.distribution} ({self.location})'


class Registry:
    """The named things of one kind.

    Attributes:
        kind: what they are, for messages. distribution: whose registrations are being taken right now.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.distribution = "this program"
        self._providers: dict[str, Provider] = {}

    def add(
        self,
        name: str,
        target: str | Factory,
        *,
        options: type[Any] | None = None,
        chosen_by: str | None = None,
    ) -> None:
        """Offer ``name``.

        Args:
            name: as users write it in the configuration.
            target: ``"module:attribute"``, imported only when it is used, or the factory itself. A factory
                takes ``(options)`` or ``(options, context)`` and returns an async context manager that yields
                the thing.
            options: the attrs class of its options; fields made by `taskcast_core.config.option` may name
            variables.
            chosen_by: an environment variable (``TASKCAST_REDIS_URL``) that, when set, chooses this provider
                where the configuration names none.

        Raises:
            PluginError: the name is taken (both distributions are named), or an argument is not of the
            described form.
        """
        if (other := self._providers.get(name)) is not None:
            raise PluginError(f'{self.distribution} and {other.distribution} both offer the {self.kind} "{name}"')
        module, colon, attribute = target.partition(":") if isinstance(target, str) else ("", "", "")
        if not name or not (callable(target) or (module and colon and attribute)):
            raise PluginError(f'{self.distribution}: the {self.kind} "{name}" needs "module:attribute" or a factory')
        if options is not None and not attrs.has(options):
            raise PluginError(f'{self.distribution}: the options of the {self.kind} "{name}" must be an attrs class')
        if options is not None:
            try:
                attrs.resolve_types(options)
            except NameError as error:
                message = f'{self.distribution}: the options of the {self.kind} "{name}" cannot be resolved: {error}'
                raise PluginError(message) from error
        self._providers[name] = Provider(self.kind, name, target, options, self.distribution, chosen_by)

    def get(self, name: str, path: str = "") -> Provider:
        """The provider of this name.

        Args:
            name: what the configuration asks for.
            path: where it does, for the message.

        Raises:
            InvalidConfig: there is none; the message lists the installed ones.
        """
        if name in self._providers:
            return self._providers[name]
        installed = ", ".join(sorted(self._providers)) or "none"
        hint = did_you_mean(name, self._providers) or "; install the distribution that provides it"
        place = f" at {path}" if path else ""
        message = f'unknown {self.kind} "{name}"{place}; installed are: {installed}{hint}'
        raise InvalidConfig([Problem(path, message, repr(name), f"one of {installed}")])

    def names(self) -> list[str]:
        """What is installed, sorted."""
        return sorted(self._providers)

    def __contains__(self, name: object) -> bool:
        return name in self._providers

    def __iter__(self) -> Iterator[Provider]:
        return iter(tuple(self._providers.values()))


@frozen
class _NoOptions:
    pass


def _positional(factory: Factory) -> int:
    """How many of two positional arguments a callable takes."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(factory).parameters.values()
    if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters):
        return 2
    return min(2, sum(each.kind in kinds for each in parameters))

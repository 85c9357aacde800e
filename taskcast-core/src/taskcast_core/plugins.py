"""Discovery: entry points → loaded plugins → filled registries. A `Plugins` object is made, loaded and passed
on; there is no global one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import Distribution, EntryPoint, entry_points
from types import ModuleType
from typing import Any

import pluggy

from taskcast_core.config import Config, InvalidConfig, Problem, Section, SectionRegistry, did_you_mean
from taskcast_core.errors import ConfigError, PluginError
from taskcast_core.hookspecs import LIFECYCLE_HOOKS, Hooks
from taskcast_core.registry import Registry
from taskcast_core.selection import Role, Selected, select
from taskcast_core.values import frozen

GROUP = "taskcast"
ALWAYS = ("taskcast-core",)
"""Distributions that an allow-list does not keep out: it is about what others have installed."""


@frozen
class Discovered:
    """One line of ``taskcast plugins``.

    Attributes:
        kind: ``plugin`` (an entry point), ``broadcast``, ``short-term store`` …, ``config section`` or
        ``observer``.
        name: its name in the configuration, or the hook's. distribution, version: whose it is.
        location: the module, or ``module:attribute``. path: the folder that the distribution was found in.
        loaded: False for a plugin that the allow-list keeps out.
    """

    kind: str
    name: str
    distribution: str
    version: str
    location: str
    path: str = ""
    loaded: bool = True


@frozen
class _Source:
    """Where a plugin object comes from."""

    distribution: str
    version: str = ""
    location: str = ""
    path: str = ""


class Plugins:
    """The plugins of one engine or server.

    ::

        plugins = Plugins()
        config = load_config(plugins=plugins)          # loads what `plugins:` allows
        broadcast = plugins.select("broadcast", config)

    Args:
        extra: plugin modules or objects that no entry point names: for embedders and tests.
        discover: whether installed entry points are looked at; False makes ``extra`` all there is.
        specs: modules with further hookspecs, such as the server's.
        always: distributions that are loaded whatever the allow-list says.
    """

    def __init__(
        self,
        extra: Iterable[object] = (),
        *,
        discover: bool = True,
        specs: Iterable[ModuleType] = (),
        always: Sequence[str] = ALWAYS,
    ) -> None:
        self.hooks = Hooks()
        self.broadcasts = Registry("broadcast")
        self.short_term_stores = Registry("short-term store")
        self.long_term_stores = Registry("long-term store")
        self.authenticators = Registry("authenticator")
        self.sections = SectionRegistry()
        self._registries: dict[Role, Registry] = {
            "broadcast": self.broadcasts,
            "short_term_store": self.short_term_stores,
            "long_term_store": self.long_term_stores,
        }
        self._extra = tuple(extra)
        self._discover = discover
        self._specs = tuple(specs)
        self._always = frozenset(_normal(each) for each in always)
        self._sources: dict[str, _Source] = {}
        self._found: list[Discovered] = []
        self._loaded = False

    def load(self, allowed: Sequence[str] | None = None) -> Plugins:
        """Import the plugins and call their registration hooks; once, later calls change nothing.

        Args:
            allowed: names of distributions or entry points; None allows all that are installed.

        Raises:
            PluginError: a plugin cannot be imported or registered, implements an unknown hook, offers what
                another one offers, or is allowed but not installed; distribution and cause are named.
        """
        if self._loaded:
            return self
        self._loaded = True
        for spec in self._specs:
            self.hooks.add_hookspecs(spec)
        if self._discover:
            self._load_entry_points(allowed)
        for plugin in self._extra:
            kind = type(plugin)
            self._register(plugin, _Source("this program", location=getattr(plugin, "__name__", kind.__qualname__)))
        self._check_pending()
        self._fill()
        return self

    def sections_for(self, allowed: Sequence[str] | None) -> Sequence[Section]:
        """Load, if that has not happened, and give the sections of the configuration that plugins own."""
        return tuple(self.load(allowed).sections)

    def select(self, role: Role, config: Config) -> Selected | None:
        """Who plays this role by the configuration, options read; None for no long-term store.

        Raises:
            InvalidConfig: unknown provider, or options that are not right.
        """
        self.load(config.core.plugins)
        return select(role, config, self._registries[role])

    def check(self, config: Config) -> None:
        """Read all that the configuration puts off: every section, and every chosen provider's options.

        Raises:
            InvalidConfig: with everything that is wrong.
        """
        problems: list[Problem] = []
        reads: list[Callable[[], object]] = [config.check]
        reads += [partial(self.select, role, config) for role in self._registries]
        for read in reads:
            try:
                read()
            except InvalidConfig as error:
                problems += [each for each in error.problems if each not in problems]
        if problems:
            raise InvalidConfig(problems, str(config.source) if config.source else None)

    def describe(self) -> list[Discovered]:
        """What was discovered, by which distribution, from where."""
        lines = list(self._found)
        for registry in (self.broadcasts, self.short_term_stores, self.long_term_stores, self.authenticators):
            lines += [self._line(each.kind, each.name, each.distribution, each.location) for each in registry]
        for section in self.sections:
            location = f"{section.cls.__module__}:{section.cls.__qualname__}"
            lines.append(self._line("config section", section.name or "(top level)", section.distribution, location))
        for name in LIFECYCLE_HOOKS:
            for implementation in self.hooks.implementations(name):
                source = self._sources[implementation.plugin_name]
                lines.append(self._line("observer", name, source.distribution, source.location))
        return lines

    # ── loading ────────────────────────────────────────────────────────────────────────────────────────────

    def _load_entry_points(self, allowed: Sequence[str] | None) -> None:
        found = [(_owner(each), each) for each in entry_points(group=GROUP)]
        installed = sorted(found, key=lambda each: (each[0].distribution, each[1].name))
        if allowed is not None:
            _refuse_missing(allowed, installed)
        wanted = None if allowed is None else {_normal(each) for each in allowed} | self._always
        for source, each in installed:
            loads = wanted is None or bool({_normal(source.distribution), _normal(each.name)} & wanted)
            self._found.append(
                Discovered("plugin", each.name, source.distribution, source.version, each.value, source.path, loads)
            )
            if loads:
                self._register(_import(each, source), source)

    def _register(self, plugin: object, source: _Source) -> None:
        name = f"{source.distribution}:{source.location}"
        if name in self._sources:
            name = f"{name}#{len(self._sources)}"
        self._sources[name] = source
        try:
            self.hooks.register(plugin, name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(f"{_named(source)} cannot be registered: {error}") from error

    def _check_pending(self) -> None:
        try:
            self.hooks.check_pending()
        except pluggy.PluginValidationError as error:
            known = [name for name in vars(self.hooks.hook) if not name.startswith("_")]
            pending = [name for name in known if not getattr(self.hooks.hook, name).has_spec()]
            name = pending[0]
            implementation = self.hooks.implementations(name)[0]
            hint = did_you_mean(name, set(known) - set(pending))
            source = self._sources[implementation.plugin_name]
            raise PluginError(f"{_named(source)} implements an unknown hook {name}{hint}") from error

    def _fill(self) -> None:
        """Call the registration hooks one implementation at a time, so that each registration knows its
        owner.
        """
        registries: dict[str, Registry | SectionRegistry] = {
            "taskcast_config_sections": self.sections,
            "taskcast_broadcasts": self.broadcasts,
            "taskcast_short_term_stores": self.short_term_stores,
            "taskcast_long_term_stores": self.long_term_stores,
            "taskcast_authenticators": self.authenticators,
        }
        for hook, registry in registries.items():
            for implementation in self.hooks.implementations(hook):
                source = self._sources[implementation.plugin_name]
                registry.distribution = source.distribution
                _call(implementation, hook, registry, source)

    def _line(self, kind: str, name: str, distribution: str, location: str) -> Discovered:
        source = next(
            (each for each in self._sources.values() if each.distribution == distribution),
            _Source(distribution),
        )
        return Discovered(kind, name, distribution, source.version, location, source.path)


def _call(implementation: pluggy.HookImpl, hook: str, registry: Registry | SectionRegistry, source: _Source) -> None:
    function: Callable[..., object] = implementation.function
    try:
        function(*([registry] if implementation.argnames else []))
    except (PluginError, ConfigError):
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"{_named(source)}: {hook} failed with {type(error).__name__}: {error}") from error


def _import(entry_point: EntryPoint, source: _Source) -> object:
    try:
        found: Any = entry_point.load()
        return found() if isinstance(found, type) else found
    except (Exception, SystemExit) as error:
        raise PluginError(f"{_named(source)} cannot be loaded: {type(error).__name__}: {error}") from error


def _owner(entry_point: EntryPoint) -> _Source:
    distribution: Distribution | None = entry_point.dist
    if distribution is None:
        return _Source("unknown", location=entry_point.value)
    facts = distribution.metadata  # read from its file each time that it is asked for
    return _Source(facts["Name"], facts["Version"], entry_point.value, str(distribution.locate_file("")))


def _refuse_missing(allowed: Sequence[str], installed: Sequence[tuple[_Source, EntryPoint]]) -> None:
    distributions = {source.distribution for source, _ in installed}
    known = distributions | {each.name for _, each in installed}
    for at, name in enumerate(allowed):
        if _normal(name) not in {_normal(each) for each in known}:
            names = ", ".join(sorted(distributions)) or "none"
            hint = did_you_mean(name, known)
            raise PluginError(f'plugins[{at}]: "{name}" is not installed; installed are: {names}{hint}')


def _named(source: _Source) -> str:
    version = f" {source.version}" if source.version else ""
    return f"plugin {source.location} of {source.distribution}{version}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

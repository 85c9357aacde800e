"""Who reads which part of the configuration: core, the server, and any plugin that owns a section."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import attrs

from taskcast_core.config.fields import init_fields, is_class
from taskcast_core.config.nodes import join
from taskcast_core.config.options import wire_name
from taskcast_core.config.scalars import bare
from taskcast_core.config.tree import CoreSettings
from taskcast_core.errors import PluginError
from taskcast_core.values import frozen

CORE = "taskcast-core"


@frozen
class Section:
    """A part of the configuration with the attrs class that reads it.

    Attributes:
        name: the top-level key; empty if the fields of the class are top-level keys themselves.
        cls: the attrs class. Fields made by ``option(env=…)`` bring their own environment variables.
        distribution: whose it is, for messages.
    """

    name: str
    cls: type[Any]
    distribution: str = CORE


class SectionSource(Protocol):
    """Whoever knows the sections of the installed plugins; `taskcast_core.plugins.Plugins` is one."""

    def sections_for(self, allowed: Sequence[str] | None) -> Sequence[Section]:
        """The sections of the plugins that the configuration's ``plugins:`` list allows (None: all)."""
        ...


class SectionRegistry:
    """What ``taskcast_config_sections`` is handed."""

    def __init__(self) -> None:
        self._sections: list[Section] = []
        core = Section("", CoreSettings)
        self._taken = [(core, _paths(core))]
        self.distribution = CORE

    def add(self, name: str, cls: type[Any]) -> None:
        """Read the top-level key ``name`` as an instance of the attrs class ``cls``.

        A section may have several readers (core and server share ``limits``) as long as no key has two.

        Raises:
            PluginError: ``cls`` is no attrs class, or a key of it has another reader; both distributions are
            named.
        """
        if not attrs.has(cls):
            raise PluginError(f"{self.distribution}: the section {name or 'at the top level'} needs an attrs class")
        section = Section(name, cls, self.distribution)
        paths = _paths(section)
        for other, taken in self._taken:
            if other.cls is not cls and (clashing := sorted(paths & taken)):
                raise PluginError(
                    f"{self.distribution} and {other.distribution} both read {clashing[0]} of the configuration"
                )
        self._sections.append(section)
        self._taken.append((section, paths))

    def add_root(self, cls: type[Any]) -> None:
        """Read every field of the attrs class ``cls`` as a top-level key. Raises as `add` does."""
        self.add("", cls)

    def __iter__(self) -> Iterator[Section]:
        return iter(tuple(self._sections))


def _paths(section: Section) -> set[str]:
    """The options that a section reads: its keys, and for top-level keys that are mappings the keys in there."""
    try:
        fields = init_fields(section.cls)
    except NameError as error:
        message = f"{section.distribution}: {section.cls.__qualname__} has an annotation without meaning: {error}"
        raise PluginError(message) from error
    paths = set()
    for each in fields:
        path = join(section.name, wire_name(each.name))
        kind, _ = bare(each.type or Any)
        inner = init_fields(kind) if not section.name and is_class(kind) else []
        paths |= {join(path, wire_name(item.name)) for item in inner} or {path}
    return paths

"""Who reads which part of the configuration: core, the server, and any plugin that owns a section."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import attrs
from attrs import frozen

from taskcast_core.config.options import wire_name
from taskcast_core.errors import PluginError

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
        keys = _keys(cls)
        for other in self._sections:
            if other.cls is not cls and other.name == name and (shared := sorted(keys & _keys(other.cls))):
                where = f"{name}.{shared[0]}" if name else shared[0]
                raise PluginError(
                    f"{self.distribution} and {other.distribution} both read {where} of the configuration"
                )
        self._sections.append(Section(name, cls, self.distribution))

    def add_root(self, cls: type[Any]) -> None:
        """Read every field of the attrs class ``cls`` as a top-level key. Raises as `add` does."""
        self.add("", cls)

    def __iter__(self) -> Any:
        return iter(tuple(self._sections))


def _keys(cls: type[Any]) -> set[str]:
    return {wire_name(each.name) for each in attrs.fields(cls) if each.init}

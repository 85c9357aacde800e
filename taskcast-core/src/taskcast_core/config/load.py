"""`load_config`: find, parse, interpolate, overlay, read; and `Config`, what comes out."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import attrs

from taskcast_core.config import files, scalars
from taskcast_core.config.environment import Surroundings
from taskcast_core.config.errors import InvalidConfig, Problem
from taskcast_core.config.interpolation import interpolate
from taskcast_core.config.nodes import Leaf, Node, Origin, Rank, grow, leaves, merge
from taskcast_core.config.options import option, wire_name
from taskcast_core.config.reading import Options, Reader, Scene, Setting
from taskcast_core.config.sections import Section, SectionSource
from taskcast_core.config.suggest import did_you_mean
from taskcast_core.config.tree import CoreSettings

T = TypeVar("T")
_log = logging.getLogger(__name__)

CORE_SECTIONS = (Section("", CoreSettings),)


def load_config(
    path: str | os.PathLike[str] | None = None,
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    sections: Sequence[Section] = (),
    plugins: SectionSource | None = None,
) -> Config:
    """Load the configuration; without any file it is empty, and the environment still counts.

    Args:
        path: the file to read; None searches the working directory, then the user's (``TASKCAST_CONFIG_DIR``,
            by default ``~/.taskcast``).
        cwd: the working directory; by default the process's.
        env: the environment; by default the process's.
        flags: what the command line said, by option path or by variable name; None values were not given.
        sections: readers besides core's own.
        plugins: asked for the sections of installed plugins, after the
            file's ``plugins:`` list is known. Without it, top-level keys that core does not know are left for
            `Config.with_plugins` to judge.

    Raises:
        InvalidConfig: the file is missing, unreadable or malformed, or values are not as expected; all of
        those at once.
        PluginError: a plugin cannot be loaded.
    """
    environ = dict(os.environ if env is None else env)
    directory = Path(cwd) if cwd is not None else Path.cwd()
    found = files.find(None if path is None else Path(path), directory, _home(environ))
    data: Mapping[str, object] = {} if found.path is None else files.parse(found.path)
    config = Config(
        data,
        Surroundings(environ, dict(flags or {})),
        source=found.path,
        sections=sections,
        plugins=plugins,
        warnings=found.warnings,
    )
    config.log_warnings()
    return config


def _home(environ: Mapping[str, str]) -> Path | None:
    try:
        return Path(environ.get("TASKCAST_CONFIG_DIR") or "~/.taskcast").expanduser()
    except RuntimeError:  # a user without a home directory, as containers have
        return None


class Config:
    """A configuration that has been read and checked.

    Built by `load_config`, or by `Config.of` from data that a program already has.

    Attributes:
        source: the file, or None. warnings: what is odd but harmless, such as unknown keys.
        around: the environment and the flags it was read in.
    """

    def __init__(
        self,
        data: Mapping[str, object],
        around: Surroundings,
        *,
        source: Path | None = None,
        sections: Sequence[Section] = (),
        plugins: SectionSource | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        self.source = source
        self.around = around
        self._data = data
        self._sections = tuple(sections)
        self._file_warnings = tuple(warnings)
        self._scene = Scene(around, source=str(source) if source else None)
        origin = Origin(Rank.FILE, source.name if source else "", source.parent.resolve() if source else None)
        self._file = grow(data, origin, lambda text: interpolate(text, around.env))
        self._plugins = plugins
        every = (*CORE_SECTIONS, *self._sections)
        if plugins is not None:
            every = (*every, *plugins.sections_for(self._allowed()))
        self._found: dict[type[Any], object] = {}
        self._deferred: dict[type[Any], list[Problem]] = {}
        self._by_name = {section.name: section.cls for section in every if section.name}
        reader = self._read(every)
        self.warnings = (*warnings, *_unknown(reader, self._by_name, judged=plugins is not None))

    @classmethod
    def of(
        cls,
        data: Mapping[str, object] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        flags: Mapping[str, object] | None = None,
        sections: Sequence[Section] = (),
        plugins: SectionSource | None = None,
    ) -> Config:
        """A configuration from a dict, for embedders and tests. Nothing comes from the environment unless
        given.
        """
        return cls(data or {}, Surroundings(dict(env or {}), dict(flags or {})), sections=sections, plugins=plugins)

    def with_plugins(self, plugins: SectionSource) -> Config:
        """The same configuration, read again with the sections of these plugins; now unknown top-level keys
        are known.
        """
        if plugins is self._plugins:
            return self
        return Config(
            self._data,
            self.around,
            source=self.source,
            sections=self._sections,
            plugins=plugins,
            warnings=self._file_warnings,
        )

    @property
    def core(self) -> CoreSettings:
        """What the engine itself reads. Raises InvalidConfig if it needs a variable that is not set."""
        return self.section(CoreSettings)

    def section(self, cls: type[T]) -> T:
        """The section that is read by this class.

        Raises:
            InvalidConfig: it holds ``${VAR}`` without value. LookupError: nobody registered the class.
        """
        if cls not in self._found and cls not in self._deferred:
            raise LookupError(f"{cls.__qualname__} is not registered as a section of the configuration")
        if cls in self._deferred:
            raise InvalidConfig(self._deferred[cls], self._scene.source)
        found = self._found[cls]
        assert isinstance(found, cls)
        return found

    def section_named(self, name: str) -> Any:
        """The section of this top-level key, as `section` gives it."""
        if name not in self._by_name:
            raise LookupError(f"nobody registered the section {name!r}{did_you_mean(name, self._by_name)}")
        return self.section(self._by_name[name])

    @property
    def provenance(self) -> Mapping[str, Setting]:
        """Path → the value as shown (secrets masked) and where it came from, for all options read so far."""
        return MappingProxyType(self._scene.record)

    def check(self) -> None:
        """Raise what was put off: sections with an unset variable that nobody has asked for yet."""
        problems = [problem for each in self._deferred.values() for problem in each]
        if problems:
            raise InvalidConfig(problems, self._scene.source)

    def log_warnings(self) -> None:
        """Write each warning to the log."""
        for warning in self.warnings:
            _log.warning("%s: %s", self.source or "configuration", warning)

    def __repr__(self) -> str:
        return f"Config(source={str(self.source) if self.source else None!r}, warnings={len(self.warnings)})"

    def _allowed(self) -> tuple[str, ...] | None:
        """The ``plugins:`` list alone: it is needed before anybody knows which sections there are."""
        reader = Reader(Scene(self.around, source=self._scene.source))
        settings = reader.read(_Allowed, merge(self._file, self.around.tree(frozenset({"plugins"}))), "")
        reader.raise_problems()
        return settings.plugins if settings else None

    def _read(self, sections: Sequence[Section]) -> Reader:
        scalar_keys = frozenset(key for section in sections if not section.name for key in _scalars(section.cls))
        tree = merge(self._file, self.around.tree(scalar_keys))
        reader = Reader(self._scene)
        fatal = False
        for section in sections:
            before = len(reader.problems)
            node = tree if not section.name else _child(tree, section.name)
            found = reader.read(section.cls, node, section.name)
            new = reader.problems[before:]
            if not new:
                self._found[section.cls] = found
            elif all(problem.variable for problem in new):
                self._deferred[section.cls] = new
            else:
                fatal = True
        if fatal:
            reader.raise_problems()
        return reader


@attrs.frozen
class _Allowed:
    plugins: tuple[str, ...] | None = option(None)


def _child(tree: Node, name: str) -> Node:
    if not isinstance(tree, dict):
        return {}
    return tree.get(name, {})


def _scalars(cls: type[Any]) -> list[str]:
    """The top-level keys of a root class that are no sections."""
    kinds = [(each.name, scalars.bare(each.type)[0]) for each in attrs.fields(attrs.resolve_types(cls)) if each.init]
    return [wire_name(name) for name, kind in kinds if kind is Leaf or not (attrs.has(kind) or kind is Options)]


def _unknown(reader: Reader, sections: Mapping[str, type[Any]], *, judged: bool) -> list[str]:
    """A warning for each key that nobody reads, with the nearest key that somebody does."""
    warnings = []
    for path, key, node, known in reader.unknown():
        if not path and (key in sections or not judged):
            continue
        given = leaves(node)
        by = f" (from {given[0].origin.name})" if given and given[0].origin.rank > Rank.FILE else ""
        place = f" at {path}" if path else ""
        names = {name for name in known if "_" not in name} | (set() if path else set(sections))
        hint = did_you_mean(key, names)
        ignored = "; it is ignored" if path else "; no installed plugin reads it"
        warnings.append(f'unknown key "{key}"{place}{by}{hint or ignored}')
    return warnings

"""The configuration as the server would run with it: what commands about the server itself begin with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from attrs import field

from taskcast_core.config import Config, InvalidConfig, Problem, load_config
from taskcast_core.errors import ConfigError
from taskcast_core.plugins import Plugins
from taskcast_core.selection import Selected
from taskcast_core.values import frozen
from taskcast_server.cli.output import CliError

ALWAYS = ("taskcast-core", "taskcast-server")
SQLITE = "sqlite"
LOG_LEVELS = ("debug", "info", "warn", "error")

_PATH = "adapters.shortTermStore.path"
_PATH_VARIABLE = "TASKCAST_ADAPTERS__SHORT_TERM_STORE__PATH"
_FILE_VARIABLE = "TASKCAST_SQLITE_PATH"
"""The reference's name for the same; it means nothing to other stores."""


@frozen
class Loaded:
    """A configuration and the plugins that it was read with.

    Attributes:
        is_default_store: nothing said where tasks are kept, so the file in the user's state directory was chosen.
        own: options that `load` has set itself, with where that comes from.
    """

    config: Config
    plugins: Plugins
    is_default_store: bool = False
    own: Mapping[str, str] = field(factory=dict)

    def origin_of(self, path: str) -> str:
        """Where the value of an option comes from."""
        return self.own.get(path) or str(self.config.provenance[path].origin)

    def short_term(self) -> Selected:
        """The chosen short-term store. Raises InvalidConfig as `Plugins.select` does."""
        selected = self.plugins.select("short_term_store", self.config)
        assert selected is not None, "memory is the least"
        return selected

    def long_term(self) -> Selected | None:
        """The chosen long-term store, if there is one. Raises InvalidConfig as `Plugins.select` does."""
        return self.plugins.select("long_term_store", self.config)


def load(
    path: Path | None,
    *,
    storage: str | None = None,
    db_path: Path | None = None,
    flags: Mapping[str, object] | None = None,
) -> Loaded:
    """Load the configuration with what the command line says.

    Without a file, a storage and a URL, tasks are kept in SQLite in the user's state directory; a file that names no
    adapters means memory, as in the reference, unless ``--db-path`` asks for SQLite.

    Raises:
        ConfigError, PluginError: as `load_config` does. CliError: ``--db-path`` is for nothing.
    """
    check_log_level()
    given = {**(flags or {}), "storage": storage, _PATH: str(db_path.expanduser().absolute()) if db_path else None}
    env = dict(os.environ)
    plugins = Plugins(always=ALWAYS)
    config = load_config(path, env=env, flags=given, plugins=plugins)
    is_default, own = False, dict[str, str]()
    if (config.source is None or db_path) and _says_nothing_of_storage(config, plugins):
        given["storage"], own["storage"] = SQLITE, "default"
        is_default = not config.core.adapters.short_term_store.options.keys() and not env.get(_FILE_VARIABLE)
        if is_default:
            given[_PATH], own[_PATH] = str(state_directory() / "taskcast.db"), "default"
        config = load_config(path, env=env, flags=given, plugins=plugins)
    is_sqlite = _has_sqlite(config, plugins)
    if is_sqlite and env.get(_FILE_VARIABLE) and not env.get(_PATH_VARIABLE):
        own |= {} if db_path else {_PATH: f"env {_FILE_VARIABLE}"}
        env[_PATH_VARIABLE] = str(Path(env[_FILE_VARIABLE]).expanduser().absolute())
        config = load_config(path, env=env, flags=given, plugins=plugins)
    return Loaded(config, plugins, is_default, own)


def _has_sqlite(config: Config, plugins: Plugins) -> bool:
    try:
        selected = plugins.select("short_term_store", config)
    except InvalidConfig as error:
        if config.around.flags.get(_PATH) and any(each.path == _PATH for each in error.problems):
            raise CliError("--db-path is for the storage sqlite, and another one is chosen") from error
        return False  # whoever uses the store is told what is wrong with it
    return selected is not None and selected.name == SQLITE


def check_log_level(env: Mapping[str, str] | None = None) -> None:
    """Refuse an unknown ``TASKCAST_LOG_LEVEL`` in the words of the wire spec (rest section 7).

    Raises:
        InvalidConfig: it is unknown.
    """
    level = (os.environ if env is None else env).get("TASKCAST_LOG_LEVEL")
    if level and level not in LOG_LEVELS:
        expected = "debug, info, warn, or error"
        message = f'invalid TASKCAST_LOG_LEVEL "{level}"; expected {expected}'
        raise InvalidConfig([Problem("logLevel", message, repr(level), expected)])


def state_directory(env: Mapping[str, str] | None = None) -> Path:
    """Where a user's programs keep what should outlive them: ``$XDG_STATE_HOME/taskcast``.

    Raises:
        ConfigError: there is no home directory.
    """
    base = (os.environ if env is None else env).get("XDG_STATE_HOME")
    if base and Path(base).is_absolute():  # the XDG specification: relative ones are to be ignored
        return Path(base) / "taskcast"
    try:
        return Path.home() / ".local" / "state" / "taskcast"
    except RuntimeError as error:
        raise ConfigError("there is no home directory to keep tasks in; name a file with --db-path") from error


def _says_nothing_of_storage(config: Config, plugins: Plugins) -> bool:
    """Whether nothing chooses a provider; the path of a store alone does not."""
    if config.core.storage is not None:
        return False
    adapters = config.core.adapters
    given = {*adapters.short_term_store.options.keys()} - {"path"}
    if given or any(each.provider or each.options.keys() for each in (adapters.broadcast, adapters.long_term_store)):
        return False
    registries = (plugins.broadcasts, plugins.short_term_stores, plugins.long_term_stores)
    switches = {each.chosen_by for registry in registries for each in registry if each.chosen_by}
    return adapters.short_term_store.provider is None and not any(config.around.named((switch,)) for switch in switches)

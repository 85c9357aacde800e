"""Configuration: files, environment and flags → typed, checked settings, for core and for every plugin."""

from taskcast_core.config.environment import Surroundings
from taskcast_core.config.errors import InvalidConfig, Problem
from taskcast_core.config.load import Config, load_config
from taskcast_core.config.nodes import Leaf, Origin, Rank
from taskcast_core.config.options import SECRET, Bounds, Expected, option
from taskcast_core.config.reading import Options, Setting
from taskcast_core.config.sections import Section, SectionRegistry, SectionSource
from taskcast_core.config.suggest import did_you_mean
from taskcast_core.config.tree import (
    Adapter,
    Adapters,
    Cleanup,
    CoreSettings,
    Limits,
    StorageLifecycle,
    WorkerDefaults,
    Workers,
)
from taskcast_core.errors import ConfigError

__all__ = [
    "SECRET",
    "Adapter",
    "Adapters",
    "Bounds",
    "Cleanup",
    "Config",
    "ConfigError",
    "CoreSettings",
    "Expected",
    "InvalidConfig",
    "Leaf",
    "Limits",
    "Options",
    "Origin",
    "Problem",
    "Rank",
    "Section",
    "SectionRegistry",
    "SectionSource",
    "Setting",
    "StorageLifecycle",
    "Surroundings",
    "WorkerDefaults",
    "Workers",
    "did_you_mean",
    "load_config",
    "option",
]

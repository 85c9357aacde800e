"""PostgreSQL for Taskcast: the long-term archive of tasks and events.

The names below are imported when they are first used: a server that discovers this plugin and does not use it must not
load a database driver.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskcast_postgres.adapters import create_postgres_adapter
    from taskcast_postgres.layout import LayoutError, migrate
    from taskcast_postgres.options import PostgresOptions
    from taskcast_postgres.store import PostgresLongTermStore

_HOME_OF = {
    "LayoutError": "layout",
    "PostgresLongTermStore": "store",
    "PostgresOptions": "options",
    "create_postgres_adapter": "adapters",
    "migrate": "layout",
}

__all__ = ["LayoutError", "PostgresLongTermStore", "PostgresOptions", "create_postgres_adapter", "migrate"]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__

"""Which provider carries a role, by what flags, environment and file say together.

For each role, the first of these that says something:

1. ``adapters.<role>.provider`` from a flag or the environment;
2. ``storage`` from a flag or the environment (``--storage``, ``TASKCAST_STORAGE``), for the short-term store
   and, if the plugin offers one of that name, the broadcast;
3. ``adapters.<role>.provider`` from the file;
4. ``storage`` from the file;
5. a provider that is chosen by a variable which is set (``TASKCAST_REDIS_URL``);
6. memory; no long-term store.

Options in the file belong to the provider that the file names: where something stronger has chosen another
one, they are left aside.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal

from attrs import field

from taskcast_core.config import Adapter, Config, InvalidConfig, Leaf, Problem, Rank
from taskcast_core.registry import Provider, Registry
from taskcast_core.values import frozen

Role = Literal["broadcast", "short_term_store", "long_term_store"]

ROLE_PATHS: dict[Role, str] = {
    "broadcast": "adapters.broadcast",
    "short_term_store": "adapters.shortTermStore",
    "long_term_store": "adapters.longTermStore",
}
_DEFAULTS: dict[Role, str | None] = {
    "broadcast": "memory",
    "short_term_store": "memory",
    "long_term_store": None,
}


@frozen
class Selected:
    """What a role was given to, options read and checked, not yet open.

    Attributes:
        role: what for. name: of the provider; of its class for a live object.
        provider: whom to ask; None for a live object. options: an instance of the provider's options class.
        live: the object that a Python configuration handed over.
    """

    role: Role
    name: str
    provider: Provider | None = None
    options: object | None = field(default=None, repr=False)
    live: object | None = None

    def open(self, context: object = None) -> AbstractAsyncContextManager[Any]:
        """Open it for as long as the context manager is entered.

        A live object is used as it is; if it is an async context manager itself, it is entered, because a
        configuration file cannot do so.
        """
        if self.provider is not None:
            return self.provider.open(self.options, context)
        if isinstance(self.live, AbstractAsyncContextManager):
            return self.live
        return _as_is(self.live)


def select(role: Role, config: Config, registry: Registry) -> Selected | None:
    """Choose, and read the options; None if nobody is to have this role.

    Raises:
        InvalidConfig: the provider is not installed, or its options are not right.
    """
    adapter: Adapter = getattr(config.core.adapters, role)
    if adapter.live is not None:
        return Selected(role, type(adapter.live).__qualname__, live=adapter.live)
    name, path = _chosen(role, adapter, config, registry)
    if name is None:
        _refuse_stray_options(role, adapter, registry)
        return None
    provider = registry.get(name, path)
    in_file = adapter.provider.from_file() if adapter.provider else None
    options = adapter.options if in_file in (None, name) else adapter.options.without_file()
    return Selected(role, name, provider, provider.read_options(options))


def _chosen(role: Role, adapter: Adapter, config: Config, registry: Registry) -> tuple[str | None, str]:
    """The provider's name and the path that chose it."""
    path = ROLE_PATHS[role] + ".provider"
    storage = config.core.storage if role != "long_term_store" else None
    if storage is not None and role == "broadcast" and storage.value not in registry:
        storage = None
    named = (adapter.provider, path), (storage, "storage")
    for strong in (True, False):
        for leaf, where in named:
            if leaf is not None and (leaf.origin.rank > Rank.FILE) is strong:
                return str(leaf.value), _with_variable(leaf, where)
    variables = [each for each in registry if each.chosen_by and config.around.named((each.chosen_by,))]
    if len(variables) > 1:
        names = " and ".join(f"{each.name} ({each.chosen_by})" for each in variables)
        message = f"{path} is not given, and the environment would choose {names}; name one"
        raise InvalidConfig([Problem(path, message, expected="the name of a provider")])
    if variables:
        return variables[0].name, path
    if adapter.options.keys():
        return None, path
    return _DEFAULTS[role], path


def _refuse_stray_options(role: Role, adapter: Adapter, registry: Registry) -> None:
    if adapter.options.keys():
        path = ROLE_PATHS[role] + ".provider"
        installed = ", ".join(registry.names()) or "none"
        message = f"{path} is required beside {', '.join(adapter.options.keys())}; installed are: {installed}"
        raise InvalidConfig([Problem(path, message, expected="the name of a provider")])


def _with_variable(leaf: Leaf, path: str) -> str:
    return f"{leaf.origin.name} ({path})" if leaf.origin.rank is Rank.ENV else path


@asynccontextmanager
async def _as_is(live: object) -> AsyncIterator[object]:
    yield live

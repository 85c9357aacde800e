"""The names that users know: public where they are looked for, importable one by one, and documented."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

from taskcast_core import TaskEngine

KNOWN = {
    "taskcast_core": (
        "TaskEngine", "MemoryBroadcastProvider", "MemoryShortTermStore", "SqliteShortTermStore", "open_engine",
        "load_config", "hookimpl",
    ),
    "taskcast_server": ("create_taskcast_app", "hookimpl"),
    "taskcast_redis": ("create_redis_adapters",),
    "taskcast_postgres": ("create_postgres_adapter",),
    "taskcast_sentry": ("create_sentry_hooks",),
}  # fmt: skip
VERBS = (
    "create_task", "get_task", "list_tasks", "transition_task", "publish_event", "publish_events", "subscribe",
    "get_history", "delete_task",
)  # fmt: skip


@pytest.mark.parametrize("package", KNOWN)
def test_what_users_know_is_public(package: str) -> None:
    module = import_module(package)
    assert set(KNOWN[package]) <= set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("package", KNOWN)
def test_every_public_name_is_there_and_documented(package: str) -> None:
    module = import_module(package)
    found = {name: getattr(module, name) for name in module.__all__}
    described = {name: one for name, one in found.items() if inspect.isclass(one) or inspect.isfunction(one)}
    assert [name for name, one in described.items() if not inspect.getdoc(one)] == []


def test_the_engines_verbs_are_documented_and_take_what_the_seeds_give() -> None:
    assert [verb for verb in VERBS if not inspect.getdoc(getattr(TaskEngine, verb))] == []
    wanted = {"broadcast", "short_term_store", "long_term_store", "hooks"}
    assert wanted <= inspect.signature(TaskEngine).parameters.keys()

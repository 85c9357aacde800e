"""The hookspecs themselves."""

from __future__ import annotations

import inspect

import pytest

from taskcast_core import hookspecs
from taskcast_core.hookspecs import LIFECYCLE_HOOKS, REGISTRATION_HOOKS, Hooks

SIGNATURES = {
    "taskcast_task_created": ["task"],
    "taskcast_task_transitioned": ["task", "previous"],
    "taskcast_task_failed": ["task", "error"],
    "taskcast_task_timed_out": ["task"],
    "taskcast_task_deleted": ["task_id"],
    "taskcast_task_released": ["task_id"],
    "taskcast_task_rehydrated": ["task"],
    "taskcast_events_committed": ["task_id", "events"],
    "taskcast_event_dropped": ["event", "reason"],
    "taskcast_subscriber_connected": ["task_id", "client_id"],
    "taskcast_subscriber_disconnected": ["task_id", "client_id", "duration_ms"],
    "taskcast_worker_connected": ["worker"],
    "taskcast_worker_disconnected": ["worker", "reason"],
    "taskcast_task_assigned": ["task", "worker"],
    "taskcast_task_declined": ["task", "worker", "blacklisted"],
    "taskcast_webhook_failed": ["config", "error"],
    "taskcast_unhandled_error": ["error", "operation", "task_id"],
}


def test_the_lifecycle_hooks_and_their_arguments_are_a_public_promise() -> None:
    found = {name: list(inspect.signature(getattr(hookspecs, name)).parameters) for name in LIFECYCLE_HOOKS}
    assert found == SIGNATURES


def test_registration_hooks_take_a_registry() -> None:
    for name in REGISTRATION_HOOKS:
        assert list(inspect.signature(getattr(hookspecs, name)).parameters) == ["registry"]


@pytest.mark.parametrize("name", [*LIFECYCLE_HOOKS, *REGISTRATION_HOOKS])
def test_every_hook_is_documented(name: str) -> None:
    assert len(inspect.getdoc(getattr(hookspecs, name)) or "") > 40


def test_every_spec_is_in_the_table() -> None:
    hooks = Hooks()
    assert {each for each in vars(hooks.hook) if each.startswith("taskcast_")} == {
        *LIFECYCLE_HOOKS,
        *REGISTRATION_HOOKS,
    }

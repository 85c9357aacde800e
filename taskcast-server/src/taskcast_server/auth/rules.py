"""A task's own conditions on its callers (wire spec, tasks section 9), on top of scopes and ``taskIds``."""

from __future__ import annotations

from typing import Any

from taskcast_core.contracts.auth import Principal
from taskcast_core.models import AuthRule, TaskAuthConfig
from taskcast_server.auth.none import OPEN_NAME


def satisfies(auth_config: TaskAuthConfig | None, scope: str, principal: Principal) -> bool:
    """Whether the caller meets every rule of the task that speaks of this scope; ``*`` in a rule is every scope.

    Callers with the scope ``*`` are subject to the rules as well. Where authentication is switched off (mode ``none``)
    nobody has a subject or claims, and the rules are not applied.
    """
    if auth_config is None or not auth_config.rules or principal.name == OPEN_NAME:
        return True
    return all(_is_met(rule, principal) for rule in auth_config.rules if _speaks_of(rule, scope))


def claims_asked_for(auth_config: TaskAuthConfig | None) -> frozenset[str]:
    """The names of all claims that the rules of a task look at."""
    rules = auth_config.rules if auth_config else None
    return frozenset(name for rule in rules or () for name in rule.require.claims or ())


def _speaks_of(rule: AuthRule, scope: str) -> bool:
    return scope in rule.match.scope or "*" in rule.match.scope


def _is_met(rule: AuthRule, principal: Principal) -> bool:
    require = rule.require
    if require.sub is not None and (principal.subject is None or principal.subject not in require.sub):
        return False
    wanted = require.claims or {}
    return all(name in principal.claims and _same(principal.claims[name], value) for name, value in wanted.items())


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON values: ``1`` is ``1.0``, but it is not ``true``."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)

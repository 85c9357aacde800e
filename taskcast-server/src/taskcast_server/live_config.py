"""The configuration of a running server: seen (without secrets), tried out, and in parts changed.

What can change while the server runs: the log level, limits, CORS, cleanup rules, and the defaults of webhooks. A
change concerns this process, until it ends: the file stays as it is, and other nodes are told by whoever tells this
one. Every change is logged (``config_changed``) and remembered.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from attrs import evolve

from taskcast_core import wire
from taskcast_core.assembly import engine_settings
from taskcast_core.config import Config, InvalidConfig, Limits, Problem, Surroundings
from taskcast_core.errors import InvalidInput, PluginError, StoreUnavailable
from taskcast_core.log_events import tell
from taskcast_core.plugins import Plugins
from taskcast_core.values import frozen
from taskcast_server.log_levels import set_level
from taskcast_server.options import CorsOptions, LimitOptions
from taskcast_server.services import Services
from taskcast_server.webhooks.options import WebhookOptions

_log = logging.getLogger(__name__)

REMEMBERED = 50
"""Changes that can be read back."""
LIVE: Mapping[str, frozenset[str] | None] = {
    "logLevel": None,
    "limits": None,
    "cors": None,
    "cleanup": None,
    "webhook": frozenset({"defaultRetry"}),
}
"""Top-level keys that can change; None: whole."""

Tree = dict[str, Any]


@frozen
class Verdict:
    """What is wrong, and what is odd, about a configuration."""

    errors: Sequence[Problem] = ()
    warnings: Sequence[str] = ()

    def shown(self) -> Tree:
        """As replies show it."""
        return {
            "valid": not self.errors,
            "errors": [{"path": each.path, "message": each.message} for each in self.errors],
            "warnings": list(self.warnings),
        }


@frozen
class Change:
    """Something that was changed. ``at``: Unix ms. ``values``: path → before and after."""

    at: int
    by: str
    request_id: str
    values: Mapping[str, tuple[Any, Any]]

    def shown(self) -> Tree:
        """As replies show it."""
        changed = {path: {"from": before, "to": after} for path, (before, after) in self.values.items()}
        return {"at": self.at, "by": self.by, "requestId": self.request_id, "changed": changed}


@frozen
class _Sections:
    """The parts that can change."""

    log_level: str
    limits: LimitOptions
    task_limits: Limits
    cors: CorsOptions
    cleanup: Any
    webhook: WebhookOptions

    @classmethod
    def of(cls, config: Config) -> _Sections:
        core = config.core
        return cls(
            core.log_level, config.section(LimitOptions), core.limits, config.section(CorsOptions), core.cleanup,
            config.section(WebhookOptions),
        )  # fmt: skip

    def tree(self) -> Tree:
        """In the shape of a configuration file."""
        cleanup = _tree(self.cleanup) | {"rules": [wire.to_wire(rule) for rule in self.cleanup.rules]}
        return {
            "logLevel": self.log_level,
            "limits": {**_tree(self.task_limits), **_tree(self.limits)},
            "cors": _tree(self.cors),
            "cleanup": cleanup,
            "webhook": {"defaultRetry": _tree(self.webhook.default_retry)},
        }


class LiveConfig:
    """The configuration of one application."""

    def __init__(
        self, config: Config, plugins: Plugins, services: Services, set_cors: Callable[[CorsOptions | None], None]
    ) -> None:
        self._config, self._plugins, self._services, self._set_cors = config, plugins, services, set_cors
        self._now = _Sections.of(config)
        self.changes: deque[Change] = deque(maxlen=REMEMBERED)

    def shown(self) -> Tree:
        """What holds, and where it comes from; secrets are masked."""
        settings = {
            path: {"value": setting.value, "origin": str(setting.origin)}
            for path, setting in sorted(self._config.provenance.items())
        }
        for change in self.changes:
            for path, (_, after) in change.values.items():
                settings[path] = {"value": str(after), "origin": f"changed by {change.by}"}
        source = self._config.source
        return {
            "source": None if source is None else str(source),
            "warnings": list(self._config.warnings),
            "settings": settings,
            "live": self._now.tree(),
            "changes": [change.shown() for change in self.changes],
        }

    # ── Trying out ─────────────────────────────────────────────────────────────────────────────────────────────────

    def judge(self, given: Tree) -> Verdict:
        """What a server that started with this configuration would say of it.

        This server's environment is not looked into: a ``${VAR}`` there is none of the asker's business, and is warned
        of; its variables of Taskcast's own would stand above what is asked about.
        """
        try:
            config = _read(given, self._plugins)
        except InvalidConfig as error:
            return _verdict(error.problems, ())
        try:
            self._plugins.check(config)
        except InvalidConfig as error:
            return _verdict(error.problems, config.warnings)
        except PluginError as error:
            return Verdict((Problem("", str(error)),), config.warnings)
        return Verdict((), config.warnings)

    # ── Changing ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def change(self, given: Tree, by: str, request_id: str) -> Tree:
        """Lay these values over the present ones, all or none; lists are replaced. What was changed.

        Raises:
            InvalidInput: something is wrong with them, or cannot change while the server runs.
        """
        _check_keys(given)
        before = self._now
        wanted = _laid_over(before.tree(), given)
        try:
            config = _read(wanted, self._plugins)
            new = _Sections.of(config)
        except InvalidConfig as error:
            raise InvalidInput([(each.path, each.message) for each in error.problems]) from None
        if config.warnings:
            raise InvalidInput([("", warning) for warning in config.warnings])
        # The rest of the section cannot change, and is not in the tree.
        new = evolve(new, webhook=evolve(before.webhook, default_retry=new.webhook.default_retry))
        change = Change(time.time_ns() // 1_000_000, by, request_id, _differences(before.tree(), new.tree()))
        if change.values:
            self._now = new
            self._tell(change)
            self.changes.append(change)
            await self._apply(before, new, config)
        return change.shown()

    async def _apply(self, before: _Sections, new: _Sections, config: Config) -> None:
        if new.log_level != before.log_level:
            set_level(new.log_level)
        if new.limits != before.limits:
            self._services.change_limits(new.limits)
        if new.cors != before.cors:
            self._set_cors(new.cors)
        if new.webhook != before.webhook and self._services.webhooks is not None:
            self._services.webhooks.change_default_retry(new.webhook.default_retry)
        if (new.cleanup, new.task_limits) != (before.cleanup, before.task_limits):
            engine = self._services.engine
            core = evolve(self._config.core, cleanup=new.cleanup, limits=new.task_limits)
            settings = engine_settings(core, has_long_term=engine.long_term_store is not None)
            try:
                await engine.reconfigure(settings.retention, settings.limits)
            except StoreUnavailable as error:
                _log.warning("tasks that had ended before come under the new cleanup rules later: %s", error)

    def _tell(self, change: Change) -> None:
        """At a level that is heard, whatever is being changed."""
        changed = {path: list(values) for path, values in change.values.items()}
        level = max(logging.WARNING, _log.getEffectiveLevel())
        tell(_log, level, "config_changed", by=change.by, changed=changed)


def _read(given: Tree, plugins: Plugins) -> Config:
    return Config(given, Surroundings(), plugins=plugins)


def _verdict(problems: Sequence[Problem], warnings: Sequence[str]) -> Verdict:
    """What only lacks a variable is no error: whoever starts a server with it may have set it."""
    errors = [each for each in problems if not each.variable]
    lacking = [each.message for each in problems if each.variable]
    return Verdict(errors, (*warnings, *lacking))


def _check_keys(given: Tree) -> None:
    faults = []
    for key, value in given.items():
        inner = LIVE.get(key)
        if key not in LIVE:
            faults.append((key, "cannot change while the server runs"))
        elif inner is not None:
            names = value if isinstance(value, dict) else {"": None}
            faults += [(f"{key}.{name}", "cannot change while the server runs") for name in names if name not in inner]
    if faults:
        raise InvalidInput(faults)


def _tree(value: Any) -> Any:
    """Options in the shape of a configuration file."""
    if attrs.has(type(value)):
        return {wire.camel(each.name): _tree(getattr(value, each.name)) for each in attrs.fields(type(value))}
    return [_tree(each) for each in value] if isinstance(value, tuple | list) else value


def _laid_over(weak: Any, strong: Any) -> Any:
    if isinstance(weak, dict) and isinstance(strong, dict):
        return {**weak, **{key: _laid_over(weak.get(key), value) for key, value in strong.items()}}
    return strong


def _differences(before: Any, after: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in {**before, **after}:
            inner = f"{path}.{key}" if path else key
            found |= _differences(before.get(key), after.get(key), inner)
        return found
    return {} if before == after else {path: (before, after)}

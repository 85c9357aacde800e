"""Observers that the configuration switches on: a plugin's section may open one (Sentry's does)."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Protocol, runtime_checkable

from taskcast_core.config import Config, InvalidConfig
from taskcast_core.plugins import Plugins

_log = logging.getLogger(__name__)

WANTED_BY = {"SENTRY_DSN": ("sentry", "taskcast-sentry")}
"""Variables that ask for an observer: the section that it reads, and the distribution that brings it."""


@runtime_checkable
class OpensObserver(Protocol):
    """A section of the configuration that brings an observer of the engine."""

    def open_observer(self, config: Config, plugins: Plugins) -> AbstractAsyncContextManager[object | None]:
        """An object with lifecycle hooks, closed after the engine; None where the section does not want any."""
        ...


async def enter_observers(stack: AsyncExitStack, config: Config, plugins: Plugins) -> list[object]:
    """Open all that there are; those whose section waits for a variable that is not set are left out, with a warning.

    Raises:
        InvalidConfig: a section cannot be read for another reason.
    """
    _warn_of_missing(config, plugins)
    found = []
    for section in plugins.sections:
        if not hasattr(section.cls, "open_observer"):
            continue
        try:
            options = config.section(section.cls)
        except InvalidConfig as error:
            if not all(problem.variable for problem in error.problems):
                raise
            _log.warning("%s stays off: %s", section.name, error)
            continue
        if isinstance(options, OpensObserver):
            found.append(await stack.enter_async_context(options.open_observer(config, plugins)))
    return [each for each in found if each is not None]


def _warn_of_missing(config: Config, plugins: Plugins) -> None:
    sections = {section.name for section in plugins.sections}
    for variable, (section, distribution) in WANTED_BY.items():
        if config.around.env.get(variable) and section not in sections:
            _log.warning(
                "%s is set, but nothing reads it: install the distribution (pip install %s), and name it in "
                "`plugins`, if there is such a list",
                variable,
                distribution,
            )

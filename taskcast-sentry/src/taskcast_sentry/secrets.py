"""The secrets that a configuration holds, so that they can be recognised wherever they turn up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, get_args
from urllib.parse import unquote, urlsplit

import attrs

from taskcast_core.config import Config, InvalidConfig, Options, option
from taskcast_core.config.options import traits
from taskcast_core.plugins import Plugins
from taskcast_core.selection import Role

_VARIABLE = re.compile(r"SECRET|TOKEN|PASSWORD|_KEY$|_DSN$|_URL$")


def configured_secrets(config: Config, plugins: Plugins) -> frozenset[str]:
    """The values of secret options, and of variables with such names; of URLs the credentials alone."""
    values = {each for found in _sections(config, plugins) for each in _secrets(found, plugins)}
    values |= {text for name, text in config.around.env.items() if _VARIABLE.search(name.upper())}
    return frozenset(part for value in values for part in _parts(value))


def _sections(config: Config, plugins: Plugins) -> Iterator[object]:
    for section in plugins.sections:
        try:
            yield config.section(section.cls)
        except InvalidConfig:  # a variable is not set: whoever needs the section says so
            continue
    for role in get_args(Role):
        selected = plugins.select(role, config)
        if selected is not None and selected.options is not None:
            yield selected.options


def _secrets(found: object, plugins: Plugins) -> Iterator[str]:
    if isinstance(found, list | tuple):
        for each in found:
            yield from _secrets(each, plugins)
    elif isinstance(found, Options):
        for each in _modes(found, plugins):
            yield from _secrets(each, plugins)
    elif attrs.has(kind := type(found)):
        for field in attrs.fields(kind):
            value: Any = getattr(found, field.name)
            if traits(field).secret and isinstance(value, str):
                yield value
            else:
                yield from _secrets(value, plugins)


def _modes(options: Options, plugins: Plugins) -> Iterator[object]:
    """The options of authenticators, which stand unread in ``auth`` under their names (``auth.jwt``)."""
    for provider in plugins.authenticators:
        if provider.options_class is None or provider.name not in options.keys():  # noqa: SIM118 - not a mapping
            continue
        own: Any = option(None, aliases=(provider.name,))
        own.type = provider.options_class | None
        others: Any = option(extras=True, factory=dict)
        others.type = dict[str, Options]
        wrapper: Any = attrs.make_class("Mode", {"mode__": own, "others__": others}, frozen=True)
        with suppress(InvalidConfig):  # whoever needs the options says so
            yield options.structure(wrapper).mode__


def _parts(value: str) -> Iterator[str]:
    """A URL is known by its credentials (as written and as meant); its host may be named."""
    if "://" not in value:
        yield value
        return
    try:
        parts = urlsplit(value)
    except ValueError:
        yield value
        return
    for each in (parts.password, parts.username if parts.scheme in ("http", "https") else None):
        if each:
            yield from {each, unquote(each)}

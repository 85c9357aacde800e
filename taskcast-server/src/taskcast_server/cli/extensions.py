"""Commands that other distributions bring along: the entry points of the group ``taskcast.commands``.

Each names an ordinary function whose parameters become the command's arguments and options (see
`taskcast_server.cli.commands`), or a command of `click`. What a function returns is of no meaning, and a `SystemExit`
is its exit status. A module is imported only when its command is named, or listed by ``--help``. Where two have one
name the built-in command wins, then the first distribution by name.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import click

from taskcast_server.cli.commands import Command
from taskcast_server.cli.output import CliError, remark

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "taskcast.commands"


def commands(name: str) -> dict[str, click.Command]:
    """The command of this name; if nobody brings it, all that can be loaded.

    Raises:
        CliError: the command of this name cannot be loaded.
    """
    found = _installed()
    if name in found:
        return {name: _load(found[name])}
    loaded: dict[str, click.Command] = {}
    for each, entry in found.items():
        try:
            loaded[each] = _load(entry)
        except CliError as error:
            remark(str(error))
    return loaded


def _installed() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # takes long, and a command of ours needs none

    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda each: (each.name, _owner(each))):
        found.setdefault(entry.name, entry)
    return found


def _owner(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else ""


def _load(entry: EntryPoint) -> click.Command:
    try:
        found = entry.load()
        if isinstance(found, click.Command):
            return found
        if callable(found):
            return Command(entry.name, found, help=inspect.getdoc(found))
    except Exception as error:
        raise CliError(f"the command {entry.name} of {_owner(entry)} cannot be loaded: {error!r}") from error
    raise CliError(f"the command {entry.name} of {_owner(entry)} is no function: {entry.value}")

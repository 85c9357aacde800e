"""Commands that other distributions bring along: the entry points of the group ``taskcast.commands``.

Each names an ordinary function whose parameters become the command's arguments and options; what it returns is of no
meaning, and a `SystemExit` is its exit status. A module is imported only when its command is named, or listed by
``--help``. Where two have one name the built-in command wins, then the first distribution by name.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from taskcast_server.cli.output import CliError, remark

GROUP = "taskcast.commands"

Command = Callable[..., object]


def commands(name: str) -> dict[str, Command]:
    """The command of this name; if nobody brings it, all that can be loaded.

    Raises:
        CliError: the command of this name cannot be loaded.
    """
    found = _installed()
    if name in found:
        return {name: _load(found[name])}
    loaded: dict[str, Command] = {}
    for each, entry in found.items():
        try:
            loaded[each] = _load(entry)
        except CliError as error:
            remark(str(error))
    return loaded


def _installed() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda each: (each.name, _owner(each))):
        found.setdefault(entry.name, entry)
    return found


def _owner(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else ""


def _load(entry: EntryPoint) -> Command:
    try:
        command = entry.load()
    except Exception as error:
        raise CliError(f"the command {entry.name} of {_owner(entry)} cannot be loaded: {error!r}") from error
    if not callable(command):
        raise CliError(f"the command {entry.name} of {_owner(entry)} is no function: {entry.value}")
    found: Command = command
    return found

"""The Lua scripts: one per verb, each put together from the pieces it builds on."""

from __future__ import annotations

from functools import cache
from hashlib import sha1
from importlib.resources import files

from attrs import frozen

_LOG = ("base", "positions", "series")
_VIEW = (*_LOG, "views")
_LANES = ("base", "lanes")
_WORKERS = ("base", "workers")
_WHOLE = ("base", "indexes", "lanes", "positions", "series", "tickets")

_PIECES: dict[str, tuple[str, ...]] = {
    "commit": ("base", "indexes", "lanes", "positions", "series", "changes"),
    "create": _WHOLE,
    "load": _WHOLE,
    "open": _WHOLE,
    "restore": _WHOLE,
    "begin_restore": _WHOLE,
    "release": _WHOLE,
    "replace": _WHOLE,
    "purge": _WHOLE,
    "delete": ("base", "indexes", "lanes"),
    "trim": ("base", "lanes", "positions", "series", "views"),
    "shed": ("base", "lanes", "positions", "series"),
    "found_epoch": ("base", "lanes", "positions", "series"),
    "read": _LOG,
    "series_all": _LOG,
    "fold": _LOG,
    "count": _VIEW,
    "seek": _VIEW,
    "seek_time": _LOG,
    "locate": _LOG,
    "queue": ("base", "indexes"),
    **dict.fromkeys(("claim", "renew", "ack", "defer", "has_passed", "backlog"), _LANES),
    **dict.fromkeys(
        (
            "put_worker", "get_worker", "list_workers", "remove_worker", "heartbeat", "reserve_slot", "confirm",
            "extend", "release_slot", "assignments", "expired", "taken",
        ),
        _WORKERS,
    ),
}  # fmt: skip


@frozen
class Script:
    """A script's text, and the digest that EVALSHA knows it by."""

    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """The script of a verb."""
    folder = files(__package__) / "lua"
    pieces = (*_PIECES.get(name, ("base",)), name)
    text = "\n".join((folder / f"{piece}.lua").read_text("utf-8") for piece in pieces)
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())

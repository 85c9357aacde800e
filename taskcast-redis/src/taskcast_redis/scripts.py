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
    "commit": ("base", "lanes", "guards", "bells"),
    "create": (*_WHOLE, "bells"),
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


_GENERAL = {"commit": ("indexes", "positions", "series", "changes")}
"""Pieces that most calls of a verb do without. Every call makes all functions of a script anew, which takes longer than
many a call itself; these are made by the function ``make_general`` when they are needed. The last one returns them."""


@frozen
class Script:
    """A script's text, and the digest that EVALSHA knows it by."""

    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """The script of a verb."""
    parts = [*map(_piece, _PIECES.get(name, ("base",)))]
    if name in _GENERAL:
        parts += ["local function make_general()", *map(_piece, _GENERAL[name]), "end"]
    text = "\n".join([*parts, _piece(name)])
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


def _piece(name: str) -> str:
    return (files(__package__) / "lua" / f"{name}.lua").read_text("utf-8")

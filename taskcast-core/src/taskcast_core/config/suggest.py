"""The nearest known name, for messages about unknown ones."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like ``name``, or None if none is near. Case and underscores do not
    count.
    """
    from difflib import get_close_matches  # only who has made a mistake pays for its import

    by_form = {_form(each): each for each in known}
    found = get_close_matches(_form(name), by_form, n=1, cutoff=0.6)
    return by_form[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean "port"?`` or nothing."""
    found = nearest(name, known)
    return f'; did you mean "{found}"?' if found else ""


def _form(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()

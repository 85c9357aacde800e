"""From what a client sent to what the engine takes; errors name the field, in wire names (``[3].level``).

Event bodies are the hot ones and are checked by hand; all others go through the converter of the models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from sys import intern
from typing import Any

from taskcast_core import wire
from taskcast_core.errors import InvalidInput
from taskcast_core.filters import View
from taskcast_core.models import Cursor, EventDraft, Level, SeriesMode, SubscribeFilter, Task, TaskInput
from taskcast_server.options import LimitOptions
from taskcast_server.webhooks.validation import check_webhooks

Fault = tuple[str, str]

_LEVELS: dict[object, Level] = {"debug": "debug", "info": "info", "warn": "warn", "error": "error"}
_MODES: dict[object, SeriesMode] = {"keep-all": "keep-all", "accumulate": "accumulate", "latest": "latest"}
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_LEADING_INTEGER = re.compile(r"\s*[+]?(\d{1,15})")
_INTEGER = re.compile(r"-?\d{1,16}(\.0*)?")


# ── Events ────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_events(body: Any, limits: LimitOptions) -> tuple[EventDraft, ...]:
    """The drafts of a publish: a list of events, or one.

    Raises:
        InvalidInput: with every fault of the first faulty event.
    """
    if not isinstance(body, list):
        return (read_event(body, None, limits),)
    if len(body) > limits.max_batch_events:
        raise InvalidInput([("", f"expected at most {limits.max_batch_events} events")])
    return tuple([read_event(each, at, limits) for at, each in enumerate(body)])


def read_event(value: Any, at: int | None, limits: LimitOptions) -> EventDraft:
    """One draft, ``at`` this place in a list. ``level`` has to be given, as the reference asks for it; ``data`` may be
    left out, and is null.
    """
    if type(value) is not dict:
        raise InvalidInput([(_place(at), "expected an object")])
    get = value.get
    type_, level, data = get("type"), get("level"), get("data")
    known_level = _LEVELS.get(level) if type(level) is str else None
    if (
        known_level is not None
        and type(type_) is str
        and _is_text(type_, limits.max_type_length)
        and not is_deeper(data, limits.max_json_depth)
    ):
        type_ = intern(type_)  # logs hold many events of few types: one text for all of them
        if len(value) == 3 and data is not None:
            return EventDraft(type_, known_level, data)  # there is room for nothing else
        series_id, mode, acc_field = get("seriesId"), get("seriesMode"), get("seriesAccField")
        if series_id is None and mode is None and acc_field is None:
            return EventDraft(type_, known_level, data)
        if (
            (series_id is None or (type(series_id) is str and _is_text(series_id, limits.max_id_length)))
            and (mode is None or (type(mode) is str and mode in _MODES))
            and (acc_field is None or (type(acc_field) is str and _is_text(acc_field, limits.max_id_length)))
        ):
            return EventDraft(type_, known_level, data, series_id, mode, acc_field)  # type: ignore[arg-type]
    raise InvalidInput(_event_faults(value, _place(at), limits))


def _place(at: int | None) -> str:
    return "" if at is None else f"[{at}]"


@lru_cache(4096)
def _is_text(text: str, maximum: int) -> bool:
    """Whether a type or an id is fit to be stored; the same ones come again and again."""
    return len(text) <= maximum and ((text.isascii() and "\0" not in text) or _UNSTORABLE.search(text) is None)


def _event_faults(value: dict[str, Any], where: str, limits: LimitOptions) -> list[Fault]:
    prefix = f"{where}." if where else ""
    faults: list[Fault] = []
    if "type" not in value:
        faults.append((prefix + "type", "is required"))
    if value.get("level") is None:
        faults.append((prefix + "level", "is required: one of debug, info, warn, error"))
    elif not isinstance(value["level"], str) or value["level"] not in _LEVELS:
        faults.append((prefix + "level", "expected one of debug, info, warn, error"))
    bounds = {"type": limits.max_type_length, "seriesId": limits.max_id_length, "seriesAccField": limits.max_id_length}
    for name, maximum in bounds.items():
        given = value.get(name)
        if given is not None or (name == "type" and "type" in value):
            faults += text_faults(given, prefix + name, maximum)
    mode = value.get("seriesMode")
    if mode is not None and (not isinstance(mode, str) or mode not in _MODES):
        faults.append((prefix + "seriesMode", "expected one of keep-all, accumulate, latest"))
    if is_deeper(value.get("data"), limits.max_json_depth):
        faults.append((prefix + "data", f"is nested deeper than {limits.max_json_depth} levels"))
    return faults


def text_faults(value: Any, path: str, maximum: int) -> list[Fault]:
    """What is wrong with a short text that stores keep as text: ids, types, tags."""
    if not isinstance(value, str):
        return [(path, "expected a string")]
    if len(value) > maximum:
        return [(path, f"expected at most {maximum} characters")]
    if _UNSTORABLE.search(value):
        return [(path, "must not contain NUL or lone surrogates")]
    return []


def is_deeper(value: Any, levels: int) -> bool:
    """Whether a JSON value is nested more than so many levels deep; a scalar has none."""
    kind = type(value)
    if kind is not dict and kind is not list:
        return False
    if levels <= 0:
        return True
    for each in value.values() if kind is dict else value:
        inner = type(each)
        if (inner is dict or inner is list) and is_deeper(each, levels - 1):
            return True
    return False


# ── Tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_task_input(body: Any, limits: LimitOptions) -> TaskInput:
    """The body of a creation.

    Raises:
        InvalidInput: with every fault.
    """
    given = wire.from_wire(body, TaskInput)
    faults = task_faults(given, limits)
    if given.id == "":
        faults.append(("id", "must not be empty"))
    for name in ("ttl", "cost"):
        value = getattr(given, name)
        if value is not None and value <= 0:
            faults.append((name, "expected a positive integer"))
        elif value is not None and value > 2**53 - 1:
            faults.append((name, "expected at most 2^53 - 1"))
    if faults:
        raise InvalidInput(faults)
    return given


def task_faults(given: TaskInput | Task, limits: LimitOptions) -> list[Fault]:
    """What is wrong with a new or imported task beyond its types."""
    faults: list[Fault] = []
    if given.id is not None:
        faults += text_faults(given.id, "id", limits.max_id_length)
    if given.type is not None:
        faults += text_faults(given.type, "type", limits.max_type_length)
    tags = given.tags or ()
    if len(tags) > limits.max_tags:
        faults.append(("tags", f"expected at most {limits.max_tags} items"))
    for at, tag in enumerate(tags[: limits.max_tags]):
        faults += text_faults(tag, f"tags[{at}]", limits.max_type_length)
    for name in ("params", "metadata"):
        faults += depth_faults(getattr(given, name), name, limits)
    return faults + check_webhooks(given.webhooks)


def depth_faults(value: Any, path: str, limits: LimitOptions) -> list[Fault]:
    """What is wrong with opaque JSON: it may be too deep."""
    if is_deeper(value, limits.max_json_depth):
        return [(path, f"is nested deeper than {limits.max_json_depth} levels")]
    return []


# ── Queries ───────────────────────────────────────────────────────────────────────────────────────────────────────


def comma_list(text: str | None) -> tuple[str, ...] | None:
    """``a,b`` → both; empty items are dropped, so that an empty text is an empty list. None stays None."""
    return None if text is None else tuple(part for part in text.split(",") if part)


def read_limit(text: str | None) -> int | None:
    """A leading integer above 0; anything else is no limit (wire spec)."""
    found = _LEADING_INTEGER.match(text or "")
    return (int(found.group(1)) or None) if found else None


def read_integer(query: Mapping[str, str], name: str) -> int | None:
    """An integer parameter; absent or empty is None.

    Raises:
        InvalidInput: it is something else.
    """
    text = query.get(name)
    if not text:
        return None
    if not _INTEGER.fullmatch(text):
        raise InvalidInput([(name, "expected an integer")])
    return int(text.partition(".")[0])


def read_cursor(query: Mapping[str, str]) -> Cursor | None:
    """``since.id``, ``since.index``, ``since.timestamp``; None when none of them says anything.

    Raises:
        InvalidInput.
    """
    given = Cursor(
        query.get("since.id") or None,
        read_integer(query, "since.index"),
        read_integer(query, "since.timestamp") or None,
    )
    return None if given == Cursor() else given


def read_view(query: Mapping[str, str]) -> View:
    """``types`` and ``levels``."""
    return View(comma_list(query.get("types")), comma_list(query.get("levels")))


def read_filter(query: Mapping[str, str], last_event_id: str | None) -> SubscribeFilter:
    """The query of a stream (wire spec, sse section 4).

    ``last_event_id`` counts where no ``since.*`` is given, and asks for snapshots, since the reader may have been cut
    anywhere.

    Raises:
        InvalidInput.
    """
    since = read_cursor(query)
    resumes_anywhere = since is None and bool(last_event_id)
    if resumes_anywhere:
        since = Cursor(id=last_event_id)
    return SubscribeFilter(
        since=since,
        types=comma_list(query.get("types")),
        levels=comma_list(query.get("levels")),
        include_status=query.get("includeStatus") != "false",
        wrap=query.get("wrap") != "false",
        series_format="accumulated" if query.get("seriesFormat") == "accumulated" else "delta",
        resume="snapshot" if resumes_anywhere or query.get("resume") == "snapshot" else "delta",
        limit=read_limit(query.get("limit")),
    )

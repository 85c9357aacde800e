"""One change on its way to the script and back: its arguments, and what the outcome says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen

from taskcast_core.contracts.task_log import Change, Committed, Record, Stored
from taskcast_core.entries import Entry, Origin
from taskcast_core.errors import GuardFailed, IdempotencyConflict, LimitExceeded, NotHot, ReplyExpired
from taskcast_core.models import EventDraft
from taskcast_core.series import DEFAULT_FIELD, INFERRED_FIELD, text_of
from taskcast_redis.codec import (
    LETTERS,
    LogNames,
    Reply,
    draft_data,
    kind_text,
    kinds_of,
    record_arguments,
    stored_of,
)
from taskcast_redis.connection import Argument
from taskcast_redis.keys import given, pack, unpack


@frozen
class Hint:
    """The text with which a series' new run begins, if its newest entry still is the one at ``last``."""

    series_id: str
    last: int
    prefix: str


class Needs(Exception):
    """The script has to know what the newest payloads of some series hold in a field."""

    def __init__(self, hints: Sequence[Hint]) -> None:
        self.hints = tuple(hints)
        super().__init__(f"{len(hints)} series")


@frozen
class Known:
    """The newest record that this process has seen of a task."""

    salt: int
    rev: int
    record: Record


def change_arguments(
    task_id: str, change: Change, *, ring: str, known: Known | None, hints: Sequence[Hint]
) -> list[Argument]:
    """What ``take_change`` takes, after the number of the tag; ``ring``: the command to ring with, or nothing."""
    guard, limits, key = change.guard, change.limits, change.key
    statuses = None if guard.statuses is None else f" {' '.join(guard.statuses)} "
    out: list[Argument] = [
        pack(task_id), ring, f"{known.salt} {known.rev}" if known else "",
        given(statuses), given(guard.rev), given(guard.assignment_id),
    ]  # fmt: skip
    out += [""] if key is None else [given(key.name), key.body_hash, key.ttl_ms]
    out += ["0"] if change.record is None else ["1", *record_arguments(change.record)]
    out += [limits.max_events, limits.max_bytes, limits.max_series, limits.max_types, len(hints)]
    for hint in hints:
        out += [pack(hint.series_id), hint.last, pack(hint.prefix), len(hint.prefix)]
    out.append(len(change.events))
    before: dict[str, EventDraft] = {}
    for draft in change.events:
        _add_event(out, draft, before)
    return out


def _add_event(out: list[Argument], draft: EventDraft, before: dict[str, EventDraft]) -> None:
    """``before``: the newest draft of each series, of those before this one."""
    text = Entry(_NOWHERE, 0, 0, draft).text
    kind = kind_text(draft.type, draft.level)
    series_id, mode = draft.series_id, draft.series_mode
    if series_id is None or mode is None:
        out += [text, kind, ""]
        return
    out += [text, kind, LETTERS[mode], pack(series_id)]
    if mode == "keep-all":
        return
    if mode == "accumulate":
        previous, field = before.get(series_id), draft.series_acc_field
        out.append(given(field))
        out += _variant(draft, field or DEFAULT_FIELD, previous)
        if not field:
            out += _variant(draft, INFERRED_FIELD, previous)
    before[series_id] = draft


_NOWHERE = Origin("", 0, 0)


def _variant(draft: EventDraft, field: str, previous: EventDraft | None) -> list[Argument]:
    """What the entry adds if its field is this one, and what the draft before it has there."""
    added = text_of(draft.data, field)
    prefix = (text_of(previous.data, field) if previous else None) or ""
    return [given(added), len(added or ""), pack(prefix), len(prefix)]


def committed(task_id: str, change: Change, reply: Reply, known: Known | None) -> Committed:
    """What the script made of a change.

    Raises:
        NotHot, GuardFailed, IdempotencyConflict, ReplyExpired, LimitExceeded: see TaskLog.commit.
        Needs: the change is to be sent again with these hints.
    """
    outcome = reply[0]
    if outcome == b"done":
        stored = stored_of(reply[1], change.record or (known.record if known else None))
        return Committed(stored, _entries(task_id, change.events, stored, reply[2], reply[3]))
    if outcome in (b"replayed", b"kept"):
        stored = stored_of(reply[1])
        names = LogNames(task_id, stored.segments, kinds_of(reply[3]))
        return Committed(stored, tuple(map(names.entry, reply[2])), replayed=True)
    if outcome == b"needs":
        raise Needs([_hint(*need) for need in reply[1]])
    if outcome == b"not_hot":
        raise NotHot(task_id)
    if outcome == b"guard":
        raise GuardFailed(reply[1].decode(), stored_of(reply[2]))
    if outcome == b"limit":
        raise LimitExceeded(reply[1].decode(), reply[2])
    if outcome == b"reply_expired":
        raise ReplyExpired(task_id)
    assert outcome == b"conflict", outcome
    assert change.key is not None
    raise IdempotencyConflict(change.key.name)


def _hint(series_id: bytes, last: int, field: bytes, text: bytes) -> Hint:
    return Hint(unpack(series_id), last, text_of(draft_data(text), unpack(field)) or "")


def _entries(
    task_id: str, drafts: Sequence[EventDraft], stored: Stored, timestamp: int, runs: Sequence[Any]
) -> tuple[Entry, ...]:
    segment = stored.segments[-1]
    origin = Origin(task_id, segment.epoch, segment.salt)
    found: list[Entry] = []
    first, at = stored.last_index + 1 - len(drafts), 0
    for index, draft in enumerate(drafts, first):
        if draft.series_id is None or draft.series_mode != "accumulate":
            found.append(Entry(origin, index, timestamp, draft))
            continue
        run, end, is_changed = runs[at : at + 3]
        at += 3
        entry = Entry(origin, index, timestamp, evolve(draft, series_acc_field=INFERRED_FIELD) if is_changed else draft)
        entry.run, entry.end = run, None if end < 0 else end
        found.append(entry)
    return tuple(found)

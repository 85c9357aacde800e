"""One change on its way to the script and back: its arguments, and what the outcome says."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from attrs import define, evolve, frozen

from taskcast_core.contracts.task_log import Change, Committed, Guard, LogLimits, Record, Segment, Stored
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
    msgpack,
    record_arguments,
    segments_text,
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
    """The newest record and segments that this process has seen of a task, so that a publish need not bring them back.

    Attributes:
        origin: of the entries to come. text: by what the script knows that nothing has changed since.
    """

    record: Record
    segments: tuple[Segment, ...]
    rev: int
    origin: Origin
    text: str

    @classmethod
    def of(cls, task_id: str, stored: Stored) -> Known:
        """What a commit brought."""
        newest = stored.segments[-1]
        origin = Origin(task_id, newest.epoch, newest.salt)
        return cls(stored.record, stored.segments, stored.rev, origin, f"{segments_text(stored.segments)} {stored.rev}")

    def is_of(self, stored: Stored) -> bool:
        """Whether there is nothing new in it."""
        return self.rev == stored.rev and self.record is stored.record and self.segments == stored.segments


@define(eq=False)
class Sent:
    """A change as it travels.

    Attributes:
        asked: what ``take_run`` takes of guard and limits. appends: whether the change does nothing but append events
        that belong to no series. arguments: what ``append_all`` or ``take_change`` takes. size: about, in bytes.
        entries: what it is to append, their places in the log not known yet.
    """

    task_id: str
    change: Change
    known: Known | None
    asked: bytes
    appends: bool
    arguments: list[Argument]
    size: int
    entries: tuple[Entry, ...]


def sent(task_id: str, change: Change, *, asked: bytes, known: Known | None, hints: Sequence[Hint]) -> Sent:
    """A change made ready."""
    entries = tuple([Entry(_NOWHERE, 0, 0, draft) for draft in change.events])
    appends = bool(entries) and change.record is None and change.key is None
    size = 0
    arguments: list[Argument] = [b"%d" % len(entries)]
    for entry in entries:
        if entry.series_id is not None and entry.series_mode is not None:
            appends = False
        text = entry.text
        arguments += (text, kind_text(entry.type, entry.level))
        size += len(text)
    if not appends:
        arguments = _general_arguments(change, entries, hints)
        size = sum(len(each) if isinstance(each, bytes | str) else 8 for each in arguments)
    return Sent(task_id, change, known, asked, appends, arguments, size, entries)


class Asking:
    """What is asked of changes, as the script takes it; most are asked the very same as the one before."""

    def __init__(self) -> None:
        self._ring, self._guard, self._limits = "", Guard(), LogLimits()
        self._text = _asked(self._ring, self._guard, self._limits)

    def text(self, ring: str, guard: Guard, limits: LogLimits) -> bytes:
        """``ring``: how to ring, see RedisConnection."""
        if guard is not self._guard or limits is not self._limits or ring != self._ring:
            self._ring, self._guard, self._limits = ring, guard, limits
            self._text = _asked(ring, guard, limits)
        return self._text


@lru_cache(256)
def _asked(ring: str, guard: Guard, limits: LogLimits) -> bytes:
    statuses = False if guard.statuses is None else f" {' '.join(guard.statuses)} "
    rev = False if guard.rev is None else guard.rev
    assignment_id = False if guard.assignment_id is None else guard.assignment_id
    bounds = (limits.max_events, limits.max_bytes, limits.max_series, limits.max_types)
    return msgpack([ring, statuses, rev, assignment_id, *bounds])


def _general_arguments(change: Change, entries: Sequence[Entry], hints: Sequence[Hint]) -> list[Argument]:
    key = change.key
    out: list[Argument] = [""] if key is None else [given(key.name), key.body_hash, key.ttl_ms]
    out += ["0"] if change.record is None else ["1", *record_arguments(change.record)]
    out.append(len(hints))
    for hint in hints:
        out += [pack(hint.series_id), hint.last, pack(hint.prefix), len(hint.prefix)]
    out.append(len(entries))
    before: dict[str, EventDraft] = {}
    for entry in entries:
        _add_event(out, entry, before)
    return out


def _add_event(out: list[Argument], entry: Entry, before: dict[str, EventDraft]) -> None:
    """``before``: the newest draft of each series, of those before this one."""
    out += (entry.text, kind_text(entry.type, entry.level))
    draft, series_id, mode = entry.draft, entry.series_id, entry.series_mode
    if series_id is None or mode is None:
        out.append("")
        return
    out += (LETTERS[mode], pack(series_id))
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


def committed(sent: Sent, reply: Reply) -> Committed:
    """What the script made of a change; its entries get their places.

    Raises:
        NotHot, GuardFailed, IdempotencyConflict, ReplyExpired, LimitExceeded: see TaskLog.commit.
        Needs: the change is to be sent again with these hints.
    """
    task_id, change, known = sent.task_id, sent.change, sent.known
    outcome = reply[0]
    if known is not None and type(outcome) is int:
        stored = Stored(known.record, known.segments, known.rev, outcome, reply[1], reply[2])
        return Committed(stored, _placed(sent.entries, known.origin, outcome, reply[1]))
    if outcome == b"done":
        stored = stored_of(reply[1], change.record or (known.record if known else None))
        segment = stored.segments[-1]
        origin = Origin(task_id, segment.epoch, segment.salt)
        entries = _placed(sent.entries, origin, stored.last_index, reply[2])
        return Committed(stored, _with_runs(entries, reply[3]) if reply[3] else entries)
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


def _placed(entries: tuple[Entry, ...], origin: Origin, last_index: int, timestamp: int) -> tuple[Entry, ...]:
    for index, entry in enumerate(entries, last_index + 1 - len(entries)):
        entry.origin, entry.index, entry.timestamp = origin, index, timestamp
    return entries


def _with_runs(entries: Sequence[Entry], runs: Sequence[Any]) -> tuple[Entry, ...]:
    """Accumulate entries know their place in their series, too; of some the script has found out the field."""
    found: list[Entry] = []
    at = 0
    for entry in entries:
        if entry.series_id is None or entry.series_mode != "accumulate":
            found.append(entry)
            continue
        run, end, is_changed = runs[at : at + 3]
        at += 3
        if is_changed:
            draft = evolve(entry.draft, series_acc_field=INFERRED_FIELD)
            entry = Entry(entry.origin, entry.index, entry.timestamp, draft)
        entry.run, entry.end = run, None if end < 0 else end
        found.append(entry)
    return tuple(found)

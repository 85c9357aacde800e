"""What a change means: ``apply(state, change, now)``, a pure function over the bounded state of one task.

The memory store is this machine with a lock around it; the contract kit uses it as its model; other stores reproduce
it in their own language. Nothing in here reads a clock, draws a random number or looks at a log: the state holds all
that a commit has to know, and grows with the number of series and of distinct (type, level) pairs only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import evolve, field

from taskcast_core.contracts.task_log import Change, Committed, Key, LogLimits, Record, Segment, Stored, TrimRule
from taskcast_core.entries import Entry, Origin, draft_text
from taskcast_core.errors import GuardFailed, IdempotencyConflict, LimitExceeded
from taskcast_core.filters import matches_any_type
from taskcast_core.models import EventDraft, Level
from taskcast_core.series import (
    DEFAULT_FIELD,
    INFERRED_FIELD,
    SeriesState,
    TextPart,
    accumulate,
    advance,
    text_of,
    with_default_field,
)
from taskcast_core.values import define, frozen, value

Kind = tuple[str, Level]
"""An event's type and level: all that filters look at."""

NEWEST_KEYS = 1_000
"""So many publish keys of one task are remembered, within their time."""


@define
class LogState:
    """What one task's next commit depends on.

    Attributes:
        kinds: entries so far per (type, level), removed ones included. size: bytes of all texts so far.
    """

    stored: Stored
    origin: Origin
    series: dict[str, SeriesState]
    kinds: dict[Kind, int]
    size: int = 0

    def merge(self, outcome: Outcome) -> None:
        """Become the state after a commit."""
        self.stored = outcome.stored
        if outcome.series is not _NO_SERIES:
            self.series.update(outcome.series.states)
        kinds = self.kinds
        for kind, n in outcome.kinds.items():
            kinds[kind] = kinds.get(kind, 0) + n
        self.size += outcome.size


@frozen
class KeyRecord:
    """What is remembered of a change that came with an idempotency key.

    Attributes:
        first_index, count: the entries that it appended. stored: the task after it, where the reply is kept.
    """

    name: str
    body_hash: str
    expires_at: int
    epoch: int
    first_index: int
    count: int
    stored: Stored | None

    def check(self, key: Key) -> None:
        """Raise IdempotencyConflict if ``key`` repeats this one with another body."""
        if self.body_hash != key.body_hash:
            raise IdempotencyConflict(key.name)


@define
class SeriesChanges:
    """What a commit does to series.

    Attributes:
        states: those that are other ones now. parts: what the accumulate entries do to their series' texts.
        replaced: indexes whose entries become holes (older values of latest series; may be among the new ones).
    """

    states: dict[str, SeriesState] = field(factory=dict)
    parts: list[TextPart] = field(factory=list)
    replaced: list[int] = field(factory=list)


_NOTHING: Mapping[Any, Any] = {}
_NO_SERIES = SeriesChanges()  # what most commits change of them


@value
class Outcome(Committed):
    """What a commit changes; the store makes all of it true at once, and hands it on as the reply.

    Attributes:
        kinds, size: to be added to the state's. series: not to be changed.
    """

    kinds: Mapping[Kind, int] = _NOTHING
    size: int = 0
    key: KeyRecord | None = None
    series: SeriesChanges = _NO_SERIES


def new_state(record: Record, *, epoch: int = 1, salt: int, now: int) -> LogState:
    """A task with an empty log. ``salt``: ``ids.new_salt()``; ``now``: store's ms, where its timestamps begin."""
    stored = Stored(record, (Segment(0, epoch, salt),), rev=1, last_index=-1, last_timestamp=now)
    return LogState(stored, Origin(record.task.id, epoch, salt), {}, {})


def apply(state: LogState, change: Change, now: int) -> Outcome:
    """What ``change`` does to a task at store time ``now`` (ms). Changes nothing itself.

    Idempotency keys are looked up by the store beforehand; see ``KeyRecord``.

    Raises:
        GuardFailed: the task is not as the change asks. LimitExceeded: a bound of ``change.limits``.
    """
    stored = state.stored
    _check_guard(change, stored)
    now = max(now, stored.last_timestamp)
    record, rev = stored.record, stored.rev
    if change.record is not None:
        record, rev = change.record, rev + 1
    last_index, last_timestamp = stored.last_index + len(change.events), now if change.events else stored.last_timestamp
    after = Stored(record, stored.segments, rev, last_index, last_timestamp, stored.first_index)
    key = None if change.key is None else _key_record(change.key, change, stored, after, now)
    if not change.events:
        return Outcome(after, (), key=key)
    outcome = _append(state, after, change.events, now, key)
    _check_limits(state, outcome, change.limits)
    return outcome


def _check_guard(change: Change, stored: Stored) -> None:
    guard, task = change.guard, stored.record.task
    if guard.assignment_id is not None and task.assignment_id != guard.assignment_id:
        raise GuardFailed("assignment", stored)
    if guard.rev is not None and stored.rev != guard.rev:
        raise GuardFailed("rev", stored)
    if guard.statuses is not None and task.status not in guard.statuses:
        raise GuardFailed("status", stored)


def _append(state: LogState, after: Stored, drafts: tuple[EventDraft, ...], now: int, key: KeyRecord | None) -> Outcome:
    origin, index = state.origin, state.stored.last_index
    entries = []
    size = 0
    series = _NO_SERIES
    for draft in drafts:
        index += 1
        if draft.series_id is not None and draft.series_mode in ("accumulate", "latest"):
            if series is _NO_SERIES:
                series = SeriesChanges()
            entry = _append_to_series(state, series, draft, index, now)
            size += len(entry.text)
        else:
            text = draft_text(draft)
            entry = Entry(origin, index, now, draft, None, text)
            size += len(text)
        entries.append(entry)
    kinds = {(drafts[0].type, drafts[0].level): 1} if len(drafts) == 1 else _count_kinds(drafts)
    return Outcome(after, tuple(entries), kinds, size, key, series)


def _count_kinds(drafts: tuple[EventDraft, ...]) -> dict[Kind, int]:
    """How many there are of each kind. Events of one commit are mostly of one, so that runs are what is counted."""
    kinds: dict[Kind, int] = {}
    type_, level, n = drafts[0].type, drafts[0].level, 0
    for draft in drafts:
        if draft.type is not type_ or draft.level is not level:
            kinds[type_, level] = kinds.get((type_, level), 0) + n
            type_, level, n = draft.type, draft.level, 0
        n += 1
    kinds[type_, level] = kinds.get((type_, level), 0) + n
    return kinds


def _append_to_series(state: LogState, out: SeriesChanges, draft: EventDraft, index: int, now: int) -> Entry:
    assert draft.series_id is not None
    series_id = draft.series_id
    previous = out.states.get(series_id) or state.series.get(series_id)
    default_field = previous.default_field if previous else None
    part: TextPart | None = None
    if draft.series_mode == "accumulate":
        draft, default_field = with_default_field(draft, previous)
        part = accumulate(series_id, draft, index, previous)
        out.parts.append(part)
    elif previous and previous.mode == "latest":
        out.replaced.append(previous.last_index)
    out.states[series_id] = advance(draft, index, previous, default_field, part)
    entry = Entry(state.origin, index, now, draft)
    if part:
        entry.run, entry.end = part.run, part.end
    return entry


def _check_limits(state: LogState, appended: Outcome, limits: LogLimits) -> None:
    if state.stored.last_index + 1 + len(appended.entries) > limits.max_events:
        raise LimitExceeded("maxEventsPerTask", limits.max_events)
    if state.size + appended.size > limits.max_bytes:
        raise LimitExceeded("maxBytesPerTask", limits.max_bytes)
    states = appended.series.states
    if states and len(state.series.keys() | states.keys()) > limits.max_series:
        raise LimitExceeded("maxSeriesPerTask", limits.max_series)
    for kind in appended.kinds:
        if kind not in state.kinds:
            types = {type_ for type_, _ in state.kinds.keys() | appended.kinds.keys()}
            if len(types) > limits.max_types:
                raise LimitExceeded("maxEventTypes", limits.max_types)
            break


def _key_record(key: Key, change: Change, before: Stored, after: Stored, now: int) -> KeyRecord:
    return KeyRecord(
        key.name, key.body_hash, now + key.ttl_ms, before.epoch, before.last_index + 1, len(change.events),
        after if change.keep_reply else None,
    )  # fmt: skip


def absorbed(state: LogState, entry: Entry) -> Outcome:
    """What an entry that was committed elsewhere adds to a copy of its log; the record is not its matter."""
    series = SeriesChanges()
    series_id = entry.series_id
    if series_id is not None and entry.series_mode in ("accumulate", "latest"):
        previous = state.series.get(series_id)
        part = _part_of(entry, previous)
        default = previous.default_field if previous and previous.default_field else _default_field(part)
        series.states[series_id] = advance(entry.draft, entry.index, previous, default, part)
        if part:
            series.parts.append(part)
        if entry.series_mode == "latest" and previous and previous.mode == "latest":
            series.replaced.append(previous.last_index)
    kinds = {(entry.type, entry.level): 1}
    return Outcome(state.stored, (entry,), kinds, len(entry.text), None, series)


def _part_of(entry: Entry, previous: SeriesState | None) -> TextPart | None:
    """What the entry's commit did to its series' text, from the run and end that it was given."""
    if entry.run is None or entry.series_id is None:
        return None
    field = entry.draft.series_acc_field or DEFAULT_FIELD
    text = text_of(entry.draft.data, field)
    starts = previous is None or previous.run != entry.run
    has_prefix = starts and entry.end is not None and text is not None and entry.end > len(text)
    prefix = (text_of(previous.data, field) or "") if has_prefix and previous else ""
    return TextPart(entry.series_id, entry.index, entry.run, field, text, entry.end, prefix)


def _default_field(part: TextPart | None) -> str | None:
    """What the first entry of a series said about those that name no field."""
    if part is None:
        return None
    return INFERRED_FIELD if part.field == INFERRED_FIELD else DEFAULT_FIELD


def series_states(entries: Iterable[Entry]) -> dict[str, SeriesState]:
    """The states that the series have after these entries (all of the log that is left, in order)."""
    states: dict[str, SeriesState] = {}
    for entry in entries:
        if entry.series_id is None or entry.series_mode not in ("accumulate", "latest"):
            continue
        previous = states.get(entry.series_id)
        part = _part_of(entry, previous)
        default = previous.default_field if previous and previous.default_field else _default_field(part)
        states[entry.series_id] = advance(entry.draft, entry.index, previous, default, part)
    return states


def next_epoch(stored: Stored, *, floor: int, epoch: int, salt: int) -> Stored:
    """The task after its log was cut behind ``floor``: ids up to there stay, later ones come from a new epoch."""
    kept = tuple(segment for segment in stored.segments if segment.first <= floor) or stored.segments[:0]
    return evolve(stored, segments=(*kept, Segment(floor + 1, epoch, salt)), last_index=min(floor, stored.last_index))


def matches_trim(rule: TrimRule, entry: Entry) -> bool:
    """Whether a trim rule is for this entry (series ends aside). A series mode restricts only events that have one."""
    return (
        matches_any_type(rule.types, entry.type)
        and (rule.levels is None or entry.level in rule.levels)
        and (rule.series_modes is None or entry.series_mode is None or entry.series_mode in rule.series_modes)
        and (rule.older_than is None or entry.timestamp < rule.older_than)
    )

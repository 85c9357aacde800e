"""What readers have to see, worked out naively from the full list of committed events.

Nothing here knows how the engine does it: everything is computed from the whole list, every time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from attrs import define, field, frozen

from taskcast_core.deliveries import Delivery
from taskcast_core.models import Cursor, Event, SubscribeFilter


@frozen
class Frame:
    """What a reader is shown. ``gap``: the reason, for a gap notice (which has no place of its own)."""

    index: int
    position: int
    id: str
    data: Any
    is_snapshot: bool = False
    gap: str | None = None


def frame_of(delivery: Delivery) -> Frame:
    """A delivery as a frame."""
    entry = delivery.entry
    reason = entry.data["reason"] if delivery.is_gap else None
    return Frame(entry.index, delivery.position, entry.id, entry.data, delivery.is_snapshot, reason)


def pattern_matches(pattern: str, type_: str) -> bool:
    """The spec's wildcards as a regular expression."""
    if pattern == "*":
        return True
    if pattern.endswith(".*"):
        return re.fullmatch(re.escape(pattern[:-1]) + ".*", type_, re.DOTALL) is not None
    return re.fullmatch(re.escape(pattern), type_) is not None


def is_visible(event: Event, wanted: SubscribeFilter) -> bool:
    """Types, levels and ``includeStatus``, all of them."""
    if wanted.types is not None and not any(pattern_matches(one, event.type) for one in wanted.types):
        return False
    if wanted.levels is not None and event.level not in wanted.levels:
        return False
    return wanted.include_status or event.type != "taskcast:status"


def accumulates(event: Event) -> bool:
    return event.series_mode == "accumulate" and event.series_id is not None


@define
class Log:
    """A task's events as they were committed, and those that cleanup has removed."""

    events: list[Event]
    trimmed: set[int] = field(factory=set)

    def replaced(self, upto: int | None = None) -> set[int]:
        """Entries of latest series that later ones (up to an index) have replaced."""
        newest: dict[str, Event] = {}
        gone: set[int] = set()
        for event in self.events[: None if upto is None else upto + 1]:
            if event.series_id is not None and event.series_mode in ("accumulate", "latest"):
                before = newest.get(event.series_id)
                if event.series_mode == "latest" and before is not None and before.series_mode == "latest":
                    gone.add(before.index)
                newest[event.series_id] = event
        return gone

    def total(self, upto: Event) -> Any:
        """The payload of a series' entry with everything before it (wire spec, events section 3.1)."""
        so_far: Any = None
        for event in self.events[: upto.index + 1]:
            if event.series_id != upto.series_id or event.series_mode not in ("accumulate", "latest"):
                continue
            data = event.data
            if accumulates(event):
                name = event.series_acc_field or "delta"
                if is_text(so_far, name) and is_text(data, name):
                    data = {**data, name: so_far[name] + data[name]}
            so_far = data
        return so_far

    def position(self, event: Event, wanted: SubscribeFilter) -> int:
        """How many visible events were committed before, the removed ones too."""
        return sum(is_visible(other, wanted) for other in self.events[: event.index])

    def text(self, series_id: str) -> str:
        """The text of a series at the end."""
        newest = [e for e in self.events if e.series_id == series_id and accumulates(e)][-1]
        total: str = self.total(newest)[newest.series_acc_field or "delta"]
        return total

    # ── Where a cursor points to ───────────────────────────────────────────────────────────────────────────────────

    def after(self, cursor: Cursor, wanted: SubscribeFilter, head: int) -> int | None:
        """The newest index that a cursor counts as seen; None if it cannot be honoured."""
        seen = -1
        if cursor.id:
            found = [event.index for event in self.events[: head + 1] if event.id == cursor.id]
            if not found:
                return None
            seen = found[0]
        elif cursor.timestamp:
            older = [e.index for e in self.events[: head + 1] if e.timestamp <= cursor.timestamp]
            seen = max(older, default=-1)
        if cursor.index is not None and cursor.index >= 0:
            visible = [event.index for event in self.events[: head + 1] if is_visible(event, wanted)]
            if cursor.index >= len(visible):
                return None
            seen = max(seen, visible[cursor.index])
        return seen

    # ── What a stream shows ────────────────────────────────────────────────────────────────────────────────────────

    def stream(self, wanted: SubscribeFilter, head: int) -> list[Frame]:
        """All frames of a reader that came when ``head`` was the newest index, without gap notices."""
        since = wanted.since
        has_cursor = since is not None and bool(since.id or since.index is not None or since.timestamp)
        seen = self.after(since, wanted, head) if has_cursor and since else None
        if seen is not None and self.lost_series_after(seen):
            seen = None
        if seen is None:
            frames = self._frames(wanted, -1, head, collapsed=True)
            limited = not has_cursor and wanted.limit is not None
            return self._last_of_replay(frames, wanted.limit or 0, head) if limited else frames
        return self._frames(wanted, seen, head, collapsed=wanted.series_format == "accumulated")

    def _last_of_replay(self, frames: Sequence[Frame], limit: int, head: int) -> list[Frame]:
        replay = [frame for frame in frames if frame.index <= head]
        return [*replay[max(0, len(replay) - limit) :], *frames[len(replay) :]]

    def lost_series_after(self, seen: int) -> bool:
        """Whether cleanup took away the newest entry of a series that is behind the place."""
        newest = {
            e.series_id: e.index for e in self.events if e.series_id and e.series_mode in ("accumulate", "latest")
        }
        return any(index > seen and index in self.trimmed for index in newest.values())

    def _frames(self, wanted: SubscribeFilter, seen: int, head: int, *, collapsed: bool) -> list[Frame]:
        gone = self.trimmed | self.replaced()
        shown_at: dict[str, int] = {}
        for event in self.events[: head + 1]:
            if accumulates(event) and is_visible(event, wanted) and event.series_id:
                shown_at[event.series_id] = event.index
        resumes = not collapsed and wanted.resume == "snapshot"
        due = {e.series_id for e in self.events[: head + 1] if accumulates(e)} if resumes else set()
        frames: list[Frame] = []
        for event in self.events[seen + 1 :]:
            if event.index in self.trimmed and accumulates(event) and not (collapsed and event.index <= head):
                due.add(event.series_id)
            if event.index in gone or not is_visible(event, wanted):
                continue
            data, is_snapshot = event.data, False
            if accumulates(event) and event.series_id:
                if collapsed and event.index <= head:
                    if shown_at[event.series_id] != event.index:
                        continue
                    is_snapshot = True
                elif event.series_id in due:
                    due.discard(event.series_id)
                    is_snapshot = True
                if is_snapshot or wanted.series_format == "accumulated":
                    data = self.total(event)
            frames.append(Frame(event.index, self.position(event, wanted), event.id, data, is_snapshot))
        return frames

    def check(self, got: Iterable[Frame], wanted: SubscribeFilter, head: int) -> None:
        """Assert that a reader that came at ``head`` was shown exactly what it has to be shown.

        Two things are free: values of a latest series that were replaced only after the reader came may be shown;
        and behind a place where cleanup has cut a series, more entries than necessary may be snapshots.
        """
        expected = self.stream(wanted, head)
        late = self.replaced() - self.replaced(head)
        rest = [frame for frame in got if frame.gap is None and frame.index not in late - self.trimmed]
        assert [(f.index, f.position, f.id) for f in rest] == [(f.index, f.position, f.id) for f in expected]
        cut = min((i for i in self.trimmed if accumulates(self.events[i])), default=len(self.events))
        for frame, wish in zip(rest, expected, strict=True):
            if frame.is_snapshot and not wish.is_snapshot and frame.index > cut:
                assert frame.data == self.total(self.events[frame.index])
            else:
                assert (frame.index, frame.is_snapshot, frame.data) == (wish.index, wish.is_snapshot, wish.data)


def is_text(data: Any, name: str) -> bool:
    return isinstance(data, dict) and isinstance(data.get(name), str)


@define
class Client:
    """A reader that follows the published rule: a snapshot replaces, a delta appends, a gap drops all texts."""

    events: dict[str, Event]
    totals: bool = False
    texts: dict[str, str] = field(factory=dict)

    @classmethod
    def of(cls, log: Log, wanted: SubscribeFilter) -> Client:
        """A client of a stream with this filter."""
        return cls({event.id: event for event in log.events}, wanted.series_format == "accumulated")

    def take(self, frames: Iterable[Frame]) -> Client:
        """Read frames."""
        for frame in frames:
            if frame.gap is not None:
                self.texts.clear()
                continue
            event = self.events[frame.id]
            name = event.series_acc_field or "delta"
            if not accumulates(event) or not event.series_id or not is_text(frame.data, name):
                continue
            before = "" if frame.is_snapshot or self.totals else self.texts.get(event.series_id, "")
            self.texts[event.series_id] = before + frame.data[name]
        return self

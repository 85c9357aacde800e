"""One task's log in memory: the commit machine's state, the entries, and what reads need to be cheap."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, cast

from attrs import evolve

from taskcast_core import machine
from taskcast_core.builtin.rope import Rope
from taskcast_core.contracts.log_reader import PAGE_BYTES, Page, SeriesPage
from taskcast_core.contracts.task_log import Change, Committed, Head, Key, LogCopy, SeriesCopy, Stored, TrimRule
from taskcast_core.entries import Entry, Hole, Origin, condense, texts_of
from taskcast_core.errors import NotRetained, ReplyExpired
from taskcast_core.filters import View
from taskcast_core.ids import parse_event_id
from taskcast_core.series import folded
from taskcast_core.stretch import Columns, Stretch

_index_of, _timestamp_of = attrgetter("index"), attrgetter("timestamp")


class MemoryLog:
    """A task's record and log. Synchronous, so every method is one atomic step of the event loop."""

    def __init__(self, state: machine.LogState) -> None:
        self.state = state
        self._first = state.stored.first_index
        self._entries: list[Entry | None] = []
        self._condensed = 0  # so many of them have been made small
        self._times: list[int] = []
        self._holes: list[Hole] = []  # ascending and never adjacent
        self._kinds: defaultdict[machine.Kind, list[int]] = defaultdict(list)
        self._base_counts: dict[machine.Kind, int] = {}
        self._texts: dict[str, dict[int, Rope]] = {}  # per series and run
        self._given_ids: dict[str, int] = {}
        self._keys: OrderedDict[str, machine.KeyRecord] = OrderedDict()
        self._head: tuple[Stored, Head] | None = None  # the last that was asked for, at the last index

    # ── Writing ───────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def stored(self) -> Stored:
        """The task as it is."""
        return self.state.stored

    def commit(self, change: Change, now: int) -> Committed:
        """See TaskLog.commit. Keys of transitions are the store's to remember; those of publishes are kept here."""
        outcome = machine.apply(self.state, change, now)
        self._condense()
        self.state.merge(outcome)
        self._extend(outcome.entries, outcome.kinds)
        if outcome.series.states:
            self._write_on(outcome.series)
        if outcome.key is not None:
            self._keys[outcome.key.name] = outcome.key
            while len(self._keys) > machine.NEWEST_KEYS:
                self._keys.popitem(last=False)
        return outcome

    def known_key(self, key: Key, now: int) -> machine.KeyRecord | None:
        """What is remembered under a key, if its time is not over."""
        known = self._keys.get(key.name)
        return known if known is not None and known.expires_at > now else None

    def replay(self, known: machine.KeyRecord) -> Committed:
        """The reply that a keyed publish got, from the log.

        Raises:
            ReplyExpired: its entries are not all there any more.
        """
        if known.stored is not None:
            entries = self._between(known.first_index, known.count)
            return Committed(known.stored, tuple(e for e in entries if e is not None), replayed=True)
        entries = self._between(known.first_index, known.count)
        if self.stored.epoch != known.epoch or len(entries) < known.count or None in entries:
            raise ReplyExpired(self.stored.task.id)
        return Committed(self.stored, tuple(e for e in entries if e is not None), replayed=True)

    def _condense(self) -> None:
        """Make entries small once their own commit has been told of."""
        condense(self._entries[self._condensed :])
        self._condensed = len(self._entries)

    def _between(self, first: int, count: int) -> Sequence[Entry | None]:
        start = first - self._first
        return self._entries[start : start + count] if start >= 0 else ()

    def _extend(self, entries: Sequence[Entry], kinds: Collection[machine.Kind]) -> None:
        """Put entries of these kinds behind the others."""
        self._entries += entries
        # Numbers are the entries' own objects, so that each takes eight bytes.
        if len(kinds) == 1 < len(entries):
            self._times += map(_timestamp_of, entries)
            self._kinds[next(iter(kinds))] += map(_index_of, entries)
            return
        for entry in entries:
            self._times.append(entry.timestamp)
            self._kinds[entry.type, entry.level].append(entry.index)

    def _adopt(self, entry: Entry) -> None:
        """Put an entry that was committed elsewhere behind the others; it may have brought an id along."""
        self._extend((entry,), ((entry.type, entry.level),))
        if entry.given_id is not None:
            self._given_ids[entry.given_id] = entry.index

    def _write_on(self, series: machine.SeriesChanges) -> None:
        """Continue the texts of series, and let their latest entries take the place of older ones."""
        for part in series.parts:
            runs = self._texts.setdefault(part.series_id, {})
            rope = runs.get(part.run)
            if rope is None:
                rope = runs[part.run] = Rope(part.prefix)
            if part.text:
                rope.append(part.text)
        for index in series.replaced:
            self._remove(index)

    def _remove(self, index: int, *, cut_series: bool = False, lost_series: bool = False) -> None:
        """Put a hole where an entry is (no-op where none is, or where the cold copy has it)."""
        entry = self._entry(index)
        if entry is None:
            return
        self._entries[index - self._first] = None
        self._head = None
        at = entry.timestamp
        hole = Hole(index, index, at, at, {(entry.type, entry.level): 1}, cut_series, lost_series)
        where = bisect_left(self._holes, index, key=lambda h: h.first)
        if where < len(self._holes) and self._holes[where].first == index + 1:
            hole = hole.merge(self._holes.pop(where))
        if where > 0 and self._holes[where - 1].last == index - 1:
            where -= 1
            hole = self._holes.pop(where).merge(hole)
        self._holes.insert(where, hole)

    def trim(self, rule: TrimRule, ceiling: int, limit: int) -> int:
        """See TaskLog.trim; ``ceiling``: newest index that every lane has passed."""
        doomed = self._doomed(rule, ceiling, limit)
        lost = self._series_lost_by(doomed)
        for entry in doomed:
            accumulates = entry.series_mode == "accumulate"
            self._remove(entry.index, cut_series=accumulates, lost_series=entry.series_id in lost)
        for series_id in lost:
            self._texts.pop(series_id, None)
            self.state.series.pop(series_id, None)
        return len(doomed)

    def _doomed(self, rule: TrimRule, ceiling: int, limit: int) -> list[Entry]:
        ends = {state.last_index for state in self.state.series.values()} if rule.keep_series_ends else set()
        doomed: list[Entry] = []
        for entry in self._entries[: ceiling + 1 - self._first]:
            if len(doomed) >= limit:
                break
            if entry is not None and entry.index not in ends and machine.matches_trim(rule, entry):
                doomed.append(entry)
        return doomed

    def _series_lost_by(self, doomed: Sequence[Entry]) -> set[str]:
        """Series of which nothing is left (a rule by type or level may also take the newest entry alone)."""
        losing = _series_of(doomed)
        if not losing:
            return losing
        gone = {entry.index for entry in doomed}
        return losing - _series_of(e for e in self._entries if e is not None and e.index not in gone)

    def shed(self, before: int, ceiling: int, limit: int) -> int:
        """See Cold.shed; ``ceiling``: newest index that every lane has passed."""
        end = min(before, ceiling + 1)
        cut = min(end, self._first + limit)
        at = bisect_left(self._holes, cut, key=lambda hole: hole.last)
        if at < len(self._holes) and (hole := self._holes[at]).first < cut:
            cut = hole.last + 1 if hole.last < end else hole.first
        if cut <= self._first:
            return self._first
        for kind, indexes in self._kinds.items():
            if n := bisect_left(indexes, cut):
                self._base_counts[kind] = self._base_counts.get(kind, 0) + n
                del indexes[:n]
        del self._entries[: cut - self._first], self._times[: cut - self._first]
        self._holes = [hole for hole in self._holes if hole.last >= cut]
        self._given_ids = {given_id: index for given_id, index in self._given_ids.items() if index >= cut}
        self._first = cut
        self.state.stored = evolve(self.stored, first_index=cut)
        return cut

    def found_epoch(self, floor: int, epoch: int, salt: int) -> None:
        """Cut the log behind ``floor`` and continue in a new epoch."""
        floor = min(floor, self.stored.last_index)
        segments = machine.next_epoch(self.stored, floor=floor, epoch=epoch, salt=salt).segments
        renewed = self.replaced(evolve(self.copy(upto=floor), segments=segments))
        # A copy does not tell where in a hole each entry stood.
        renewed._times = self._times[: max(floor + 1 - self._first, 0)]
        for kind, indexes in self._kinds.items():
            renewed._kinds[kind] = indexes[: bisect_right(indexes, floor)]
        self.__dict__.update(renewed.__dict__)

    def replaced(self, copy: LogCopy) -> MemoryLog:
        """What the copy says, with the keys of this log: a repeat of what is gone is nothing new."""
        log = MemoryLog.from_copy(copy)
        log._keys = self._keys
        return log

    # ── Copies ────────────────────────────────────────────────────────────────────────────────────────────────────

    def copy(self, upto: int | None = None) -> LogCopy:
        """The whole hot log, up to and including an index, as it travels between tiers."""
        stored = self.stored
        last = stored.last_index if upto is None else min(upto, stored.last_index)
        items = tuple(self._items(self._first, last + 1))
        timestamp = self._times[last - self._first] if last >= self._first else stored.last_timestamp
        series = self._series_upto(last, items)
        return LogCopy(
            stored.record, stored.rev, stored.segments, items, self._first, last, timestamp, self._base_counts, series
        )

    def newest(self, keep_last: int) -> LogCopy:
        """A copy with all the state, but only the newest items."""
        whole = self.copy()
        items = whole.items[max(0, len(whole.items) - keep_last) :]
        first = _first_of(items[0]) if items else whole.last_index + 1
        if items and items[0] is whole.items[0]:
            return whole
        base = {kind: n for kind, indexes in self._kinds.items() if (n := bisect_left(indexes, first))}
        for kind, n in self._base_counts.items():
            base[kind] = base.get(kind, 0) + n
        return evolve(whole, items=items, first_index=first, base_counts=base)

    def _series_upto(self, last: int, items: Sequence[Entry | Hole]) -> tuple[SeriesCopy, ...]:
        states = self.state.series
        if last < self.stored.last_index:
            standing = {name: state for name, state in states.items() if state.last_index <= last}
            states = machine.series_states(item for item in items if isinstance(item, Entry)) | standing
        return tuple(
            SeriesCopy(name, state, {run: rope.text() for run, rope in self._texts.get(name, {}).items()})
            for name, state in states.items()
        )

    @classmethod
    def from_copy(cls, copy: LogCopy) -> MemoryLog:
        """A log as the copy says."""
        segment = copy.segments[-1]
        stored = Stored(copy.record, copy.segments, copy.rev, copy.last_index, copy.last_timestamp, copy.first_index)
        series = {one.series_id: one.state for one in copy.series}
        origin = Origin(copy.record.task.id, segment.epoch, segment.salt)
        log = cls(machine.LogState(stored, origin, series, dict(copy.base_counts)))
        log._base_counts = dict(copy.base_counts)
        for one in copy.series:
            log._texts[one.series_id] = {
                run: Rope(text[: one.state.length] if run == one.state.run else text)
                for run, text in one.texts.items()
                if run <= one.state.run
            }
        for item in copy.items:
            if isinstance(item, Hole):
                log._adopt_hole(item)
            else:
                kind = (item.type, item.level)
                log._adopt(item)
                log.state.kinds[kind] = log.state.kinds.get(kind, 0) + 1
                log.state.size += len(item.text)
        return log

    def absorb(self, item: Entry | Hole) -> None:
        """Take the next item of the same log, committed elsewhere; ``stored`` is the caller's to advance."""
        if isinstance(item, Hole):
            self._adopt_hole(item)
            return
        outcome = machine.absorbed(self.state, item)
        self.state.merge(outcome)
        self._adopt(item)
        self._write_on(outcome.series)

    def entry(self, index: int) -> Entry | None:
        """The entry at an index, if it is here."""
        return self._entry(index)

    def _adopt_hole(self, hole: Hole) -> None:
        length = hole.last - hole.first + 1
        start = hole.first
        for kind, n in hole.counts.items():  # in what order they stood is not known
            self.state.kinds[kind] = self.state.kinds.get(kind, 0) + n
            self._kinds[kind] += range(start, start + n)
            start += n
        self._entries.extend([None] * length)
        self._times.extend([hole.first_timestamp] * (length - 1) + [hole.last_timestamp])
        if self._holes and self._holes[-1].last == hole.first - 1:
            hole = self._holes.pop().merge(hole)
        self._holes.append(hole)

    # ── Reading ───────────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, after: int, before: int | None, limit: int, *, reverse: bool) -> Page:
        """See LogReader.read."""
        stored = self.stored
        stop = stored.last_index + 1 if before is None else min(before, stored.last_index + 1)
        start = max(after + 1, 0)
        if start < self._first and start < stop and not reverse:
            raise NotRetained(stored.task.id, self._first)
        if not reverse and (plain := self._plain(start, min(stop, start + limit))):
            return Page(stored.epoch, plain, plain[-1].index, stored.last_index)
        items: list[Entry | Hole] = []
        size = 0
        for item in self._items_backwards(max(start, self._first), stop) if reverse else self._items(start, stop):
            items.append(item)
            size += len(item.text) if isinstance(item, Entry) else 0
            if len(items) >= limit or size >= PAGE_BYTES:
                break
        if not items:
            return Page(stored.epoch, (), (stop if reverse else after), stored.last_index)
        edge = items[-1]
        if reverse:
            items.reverse()
            return Page(stored.epoch, tuple(items), _first_of(edge), stored.last_index)
        return Page(stored.epoch, tuple(items), _last_of(edge), stored.last_index)

    def _plain(self, start: int, stop: int) -> Sequence[Entry]:
        """The entries of [start, stop) if they fit into a page and nothing is missing among them; else none."""
        if start >= stop or (self._holes and self._holes[-1].last >= start):
            return ()
        place = slice(start - self._first, stop - self._first)
        entries = cast(list[Entry], self._entries[place])
        texts = texts_of(entries)
        if sum(map(len, texts)) >= PAGE_BYTES:
            return ()
        origin = entries[0].origin
        if self.state.series or self._given_ids or entries[-1].origin is not origin:
            return tuple(entries)
        return Stretch.of(entries, Columns(origin, range(start, stop), self._times[place], texts))

    def _items(self, start: int, stop: int) -> Iterator[Entry | Hole]:
        """Entries and holes that cover [start, stop), holes cut to it where they reach beyond."""
        index = start
        hole_at = bisect_left(self._holes, start, key=lambda hole: hole.last)
        while index < stop:
            entry = self._entries[index - self._first]
            if entry is not None:
                yield entry
                index += 1
                continue
            hole = self._holes[hole_at]
            yield self._cut(hole, start, stop)
            hole_at += 1
            index = hole.last + 1

    def _items_backwards(self, start: int, stop: int) -> Iterator[Entry | Hole]:
        index = stop - 1
        while index >= start:
            entry = self._entries[index - self._first]
            if entry is not None:
                yield entry
                index -= 1
                continue
            hole = self._holes[bisect_left(self._holes, index, key=lambda hole: hole.last)]
            yield self._cut(hole, start, stop)
            index = hole.first - 1

    def _cut(self, hole: Hole, start: int, stop: int) -> Hole:
        """The part of a hole within [start, stop), its counts recomputed from the kinds' indexes."""
        first, last = max(hole.first, start), min(hole.last, stop - 1)
        if (first, last) == (hole.first, hole.last):
            return hole
        times = self._times[first - self._first], self._times[last - self._first]
        counts = self.counts_within(first, last)
        return evolve(hole, first=first, last=last, first_timestamp=times[0], last_timestamp=times[1], counts=counts)

    def counts_within(self, first: int, last: int) -> dict[machine.Kind, int]:
        """How many entries of each kind stand, or stood, between two indexes (both included)."""
        return {
            kind: n
            for kind, indexes in self._kinds.items()
            if (n := bisect_right(indexes, last) - bisect_left(indexes, first))
        }

    def series_page(self) -> SeriesPage:
        """See LogReader.series."""
        return SeriesPage(self.stored.epoch, self.stored.last_index, dict(self.state.series))

    def fold(self, series_id: str, index: int) -> Any:
        """See LogReader.fold."""
        entry = self._entry(index)
        if entry is None or entry.series_id != series_id or entry.run is None:
            raise NotRetained(self.stored.task.id, index)
        text = None if entry.end is None else self._texts[series_id][entry.run].upto(entry.end)
        return folded(entry.draft, text)

    def _entry(self, index: int) -> Entry | None:
        offset = index - self._first
        return self._entries[offset] if 0 <= offset < len(self._entries) else None

    def count(self, view: View, before: int) -> int:
        """See LogReader.count."""
        before = min(max(before, 0), self.stored.last_index + 1)
        if view.is_everything:
            return before
        if before < self._first:
            raise NotRetained(self.stored.task.id, self._first)
        total = view.total(self._base_counts) if self._base_counts else 0
        return total + sum(bisect_left(indexes, before) for kind, indexes in self._kinds.items() if view.matches(*kind))

    def seek(self, view: View, position: int) -> int | None:
        """See LogReader.seek."""
        low, high = self._first, self.stored.last_index
        if position < 0 or self.count(view, max(high + 1, low)) <= position:
            return None
        if self.count(view, low) > position:
            raise NotRetained(self.stored.task.id, low)
        while low < high:
            middle = (low + high) // 2
            if self.count(view, middle + 1) > position:
                high = middle
            else:
                low = middle + 1
        return low

    def seek_time(self, timestamp: int) -> int:
        """See LogReader.seek_time."""
        found = bisect_right(self._times, timestamp)
        if not found and self._first:
            raise NotRetained(self.stored.task.id, self._first)
        return self._first + found - 1

    def locate(self, event_id: str) -> int | None:
        """See LogReader.locate."""
        if event_id in self._given_ids:
            return self._given_ids[event_id]
        position = parse_event_id(event_id)
        if position is None or not self._first <= position.index <= self.stored.last_index:
            return None
        entry = self._entry(position.index)
        if entry is not None:
            return position.index if entry.id == event_id else None
        segment = next(s for s in reversed(self.stored.segments) if s.first <= position.index)
        hole = self._holes[bisect_left(self._holes, position.index, key=lambda h: h.last)]
        fits = hole.first_timestamp <= position.timestamp <= hole.last_timestamp
        return position.index if fits and position.salt == segment.salt else None

    def head(self, held: int) -> Head:
        """Where the log stands, with the id of the entry at the held index: the same object until something changes."""
        stored = self.state.stored
        known = self._head
        if known is not None and known[0] is stored and held == stored.last_index:
            return known[1]
        entry = self._entry(held)
        event_id = entry.id if entry is not None else None
        head = Head(stored.task.id, stored.epoch, stored.last_index, stored.task.status, event_id)
        if held == stored.last_index:
            self._head = stored, head
        return head


def _first_of(item: Entry | Hole) -> int:
    return item.index if isinstance(item, Entry) else item.first


def _last_of(item: Entry | Hole) -> int:
    return item.index if isinstance(item, Entry) else item.last


def _series_of(entries: Iterable[Entry]) -> set[str]:
    """The series with a state that have one of these entries."""
    return {e.series_id for e in entries if e.series_id is not None and e.series_mode in ("accumulate", "latest")}

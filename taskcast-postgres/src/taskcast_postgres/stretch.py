"""What one batch adds to one task, worked out without I/O: rows, holes, series states and pieces of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from attrs import evolve, field, frozen

from taskcast_core import machine
from taskcast_core.contracts.long_term import ArchiveBatch, Refusal, Watermark
from taskcast_core.contracts.task_log import Segment, Stored
from taskcast_core.entries import Entry, Hole, is_contiguous
from taskcast_core.errors import StorageIntegrityError
from taskcast_core.packing import Counts, add_counts
from taskcast_core.series import SeriesState, TextPart
from taskcast_postgres.rows import SPAN, Kinds, Origins

Piece = tuple[str, int]
"""A series and a run."""


@frozen
class Known:
    """A task's row, which this transaction has locked."""

    num: int
    epoch: int
    rev: int
    last_index: int
    last_timestamp: int
    segments: tuple[Segment, ...]
    kinds: Kinds = field(eq=False)
    state: str


@frozen
class Checkpoint:
    """See ``counting``."""

    index: int
    timestamp: int
    counts: Counts


class Stretch:
    """The items of a batch that are not here yet, and what becomes of them.

    Attributes:
        rows: entries that get a row, by index. holes: where there are, or were, none. replaced: indexes of older
        values of latest series whose rows have to go. series: states of the series that have gone on. texts: what
        each run has gained, with the character at which that begins.

    Raises:
        StorageIntegrityError: the batch does not follow on what is here.
    """

    def __init__(self, batch: ArchiveBatch, known: Known) -> None:
        self.batch, self.known, self.kinds = batch, known, known.kinds
        self._kinds_before = len(known.kinds.names)
        self.epoch = batch.segments[-1].epoch
        self.origins = Origins(batch.task_id, batch.segments)
        self._check()
        # What a node still writes of an epoch that is over is nobody's log any more.
        self.fresh = self._behind(known.last_index) if self.epoch >= known.epoch else []
        self.rows: dict[int, Entry] = {}
        self.holes: list[Hole] = []
        self.replaced: list[int] = []
        self.refused: list[Refusal] = []
        self.series: dict[str, SeriesState] = {}
        self.touched: set[str] = set()
        self.texts: dict[Piece, tuple[int, list[str]]] = {}

    def _check(self) -> None:
        batch, known = self.batch, self.known
        begun = batch.segments[-1].first
        if self.epoch > known.epoch > 0 and begun <= known.last_index:
            raise StorageIntegrityError(
                f"{batch.task_id}: epoch {self.epoch} begins at {begun}, but {known.last_index} is archived"
            )
        if not batch.items:
            return
        first = first_of(batch.items[0])
        if first > known.last_index + 1:
            raise StorageIntegrityError(f"{batch.task_id}: index {known.last_index + 1} is missing before {first}")
        if not is_contiguous(batch.items, first):
            raise StorageIntegrityError(f"{batch.task_id}: the batch has a gap")

    def _behind(self, last: int) -> list[Entry | Hole]:
        return [item for item in self.batch.items if last_of(item) > last]

    @property
    def overlap(self) -> list[Entry]:
        """Entries that should be here already."""
        last = self.known.last_index
        return [item for item in self.batch.items if isinstance(item, Entry) and item.index <= last]

    @property
    def straddling(self) -> Hole | None:
        """A hole of which the front should be here already, as entries or as holes."""
        first = self.fresh[0] if self.fresh else None
        return first if isinstance(first, Hole) and first.first <= self.known.last_index else None

    def cut_front(self, here: Mapping[machine.Kind, int]) -> None:
        """Leave of the straddling hole what is behind the watermark; ``here``: what stands, or stood, in its front."""
        hole = self.straddling
        assert hole is not None
        counts = {kind: left for kind, n in hole.counts.items() if (left := n - here.get(kind, 0)) > 0}
        self.fresh[0] = evolve(hole, first=self.known.last_index + 1, counts=counts)

    @property
    def series_ids(self) -> set[str]:
        """The series whose states have to be known to go on."""
        return {
            item.series_id
            for item in self.fresh
            if isinstance(item, Entry) and item.series_id is not None and item.series_mode != "keep-all"
        }

    def work_out(self, series: Mapping[str, SeriesState]) -> None:
        """Take the items one by one, as ``machine.absorbed`` does; ``series``: states as of the watermark."""
        batch = self.batch
        self.series = dict(series)
        stored = Stored(batch.record, batch.segments, batch.rev, self.known.last_index, self.known.last_timestamp)
        state = machine.LogState(stored, self.origins.at(self.known.last_index + 1), self.series, {})
        for item in self.fresh:
            if isinstance(item, Hole):
                self.holes.append(item)
                continue
            self.rows[item.index] = item
            if item.series_id is not None and item.series_mode != "keep-all":
                outcome = machine.absorbed(state, item)
                self.series.update(outcome.series.states)
                self.touched.add(item.series_id)
                for part in outcome.series.parts:
                    self._add_text(part)
                for index in outcome.series.replaced:
                    self._replace(index)
        for one in batch.series:
            if self.fresh and one.state.last_index > self.known.last_index:
                self.series[one.series_id] = one.state
                self.touched.add(one.series_id)

    def _add_text(self, part: TextPart) -> None:
        if part.end is None or part.text is None:
            return
        added = part.prefix + part.text
        _, pieces = self.texts.setdefault((part.series_id, part.run), (part.end - len(added), []))
        pieces.append(added)

    def _replace(self, index: int) -> None:
        entry = self.rows.pop(index, None)
        if entry is not None:
            self.holes.append(hole_of_one(index, entry.timestamp, (entry.type, entry.level)))
        elif index <= self.known.last_index:
            self.replaced.append(index)

    def set_aside(self, entry: Entry, reason: str) -> None:
        """PostgreSQL does not take this entry: a hole stands in its place."""
        self.refused.append(Refusal(entry.index, reason))
        del self.rows[entry.index]
        cut = entry.series_mode == "accumulate"
        hole = hole_of_one(entry.index, entry.timestamp, (entry.type, entry.level))
        self.holes.append(evolve(hole, cut_series=cut))

    # ── What comes of it ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def last_index(self) -> int:
        """The watermark's index afterwards."""
        return last_of(self.fresh[-1]) if self.fresh else self.known.last_index

    @property
    def last_timestamp(self) -> int:
        """Of the newest item."""
        return time_of(self.fresh[-1]) if self.fresh else self.known.last_timestamp

    @property
    def has_newer_record(self) -> bool:
        """Whether the batch's record replaces the one that is here."""
        return (self.epoch, self.batch.rev) > (self.known.epoch, self.known.rev)

    @property
    def has_new_kinds(self) -> bool:
        """Whether kinds were numbered."""
        return len(self.kinds.names) > self._kinds_before

    @property
    def watermark(self) -> Watermark:
        """How far the copy goes afterwards."""
        epoch, rev = max((self.epoch, self.batch.rev), (self.known.epoch, self.known.rev))
        refused = tuple(self.refused)
        return Watermark(epoch, self.last_index, rev, "cold" if self.known.state == "cold" else "hot", refused)

    @property
    def needs_checkpoint(self) -> bool:
        """Whether the log passes into another span."""
        return self.last_index // SPAN > max(self.known.last_index, 0) // SPAN

    def checkpoints(self, counts: Counts, holes: Sequence[Hole]) -> Iterator[Checkpoint]:
        """Those within the stretch; ``counts``: of what stands before the first of ``holes`` and fresh rows."""
        counts = dict(counts)
        newest = max(self.known.last_index, 0)
        lines: list[Entry | Hole] = [*self.rows.values(), *holes]
        for line in sorted(lines, key=first_of):
            index = first_of(line)
            if last_of(line) <= self.known.last_index:
                continue
            if index // SPAN > newest // SPAN:
                at = line.timestamp if isinstance(line, Entry) else line.first_timestamp
                yield Checkpoint(index, at, dict(counts))
                newest = index
            seen = {(line.type, line.level): 1} if isinstance(line, Entry) else line.counts
            add_counts(counts, self.kinds.numbered(seen))


def hole_of_one(index: int, timestamp: int, kind: machine.Kind) -> Hole:
    """The hole that one entry leaves."""
    return Hole(index, index, timestamp, timestamp, {kind: 1})


def first_of(item: Entry | Hole) -> int:
    """Where an item begins."""
    return item.index if isinstance(item, Entry) else item.first


def last_of(item: Entry | Hole) -> int:
    """Where an item ends."""
    return item.index if isinstance(item, Entry) else item.last


def time_of(item: Entry | Hole) -> int:
    """When an item ends."""
    return item.timestamp if isinstance(item, Entry) else item.last_timestamp

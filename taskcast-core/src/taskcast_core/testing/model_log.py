"""A task's log as a model that a reader can check at a glance.

The model is a list: it never removes an entry, it only notes which ones are gone. Totals are added up by hand,
positions are counted. So it shares no idea with a store, and none but the trim rule with ``taskcast_core.machine``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define, evolve, field

from taskcast_core.contracts import TrimRule
from taskcast_core.entries import Entry
from taskcast_core.filters import View
from taskcast_core.machine import matches_trim
from taskcast_core.models import EventDraft

TRACKED = ("accumulate", "latest")


@define
class _Series:
    """What the next entry of a series adds to."""

    mode: str
    default: str | None
    data: Any
    field: str | None = None
    total: str | None = None


@define
class _Line:
    """An entry, the draft as it was given and as it is stored, and what a fold has to say of it."""

    entry: Entry
    given: EventDraft
    draft: EventDraft
    folded: Any


@define
class ModelLog:
    """A task's log as a list."""

    lines: list[_Line] = field(factory=list)
    gone: set[int] = field(factory=set)
    series: dict[str, _Series] = field(factory=dict)

    @property
    def last(self) -> int:
        """The newest index."""
        return len(self.lines) - 1

    def append(self, entries: Sequence[Entry], drafts: Sequence[EventDraft]) -> None:
        """Note what a commit appended."""
        for entry, draft in zip(entries, drafts, strict=True):
            expected, folded = self._advance(draft)
            self.lines.append(_Line(entry, draft, expected, folded))

    def _advance(self, draft: EventDraft) -> tuple[EventDraft, Any]:
        series_id = draft.series_id
        if series_id is None or draft.series_mode not in TRACKED:
            return draft, None
        before = self.series.get(series_id)
        now = _Series(draft.series_mode, before.default if before else None, draft.data)
        if draft.series_mode == "latest":
            if before and before.mode == "latest":
                self.gone.add(self._newest(series_id))
            self.series[series_id] = now
            return draft, None
        if now.default is None:
            infers = (
                not draft.series_acc_field
                and _text(draft.data, "delta") is None
                and _text(draft.data, "text") is not None
            )
            now.default = "text" if infers else "delta"
        if now.default == "text" and draft.series_acc_field is None:
            draft = evolve(draft, series_acc_field="text")
        now.field = draft.series_acc_field or "delta"
        added = _text(draft.data, now.field)
        if added is not None:
            continues = before is not None and before.field == now.field and before.total is not None
            start = before.total if before and continues else _text(before.data, now.field) if before else ""
            now.total = (start or "") + added
        self.series[series_id] = now
        return draft, draft.data if now.total is None else {**draft.data, now.field: now.total}

    def _newest(self, series_id: str) -> int:
        return max(index for index, line in enumerate(self.lines) if _tracked(line.draft) == series_id)

    def doomed(self, trim: TrimRule, limit: int) -> list[int]:
        """What a trim has to remove."""
        ends = {self._newest(name) for name in self.series} if trim.keep_series_ends else set()
        matching = [
            index
            for index, line in enumerate(self.lines)
            if index not in self.gone and index not in ends and matches_trim(trim, line.entry)
        ]
        return matching[:limit]

    def remove(self, indexes: Sequence[int]) -> None:
        """Note what is gone; a series of which nothing is left begins anew."""
        self.gone.update(indexes)
        alive = {_tracked(line.draft) for index, line in enumerate(self.lines) if index not in self.gone}
        self.series = {name: state for name, state in self.series.items() if name in alive}

    def may_be_cut_at(self, floor: int) -> bool:
        """Whether nothing that a state at the floor is made of has been removed."""
        if any(index > floor for index in self.gone):
            return False
        cut = {_tracked(line.draft) for line in self.lines[floor + 1 :]} - {None}
        kept = [(index, line) for index, line in enumerate(self.lines[: floor + 1]) if _tracked(line.draft) in cut]
        replaced = any(line.draft.series_mode == "latest" for line in self.lines[floor + 1 :])
        return not replaced and not any(index in self.gone for index, _ in kept)

    def cut(self, floor: int) -> None:
        """Drop everything beyond the floor."""
        lines, gone = self.lines[: floor + 1], {index for index in self.gone if index <= floor}
        alive = {_tracked(line.draft) for index, line in enumerate(lines) if index not in gone}
        cut = {_tracked(line.draft) for line in self.lines[floor + 1 :]}
        standing = {name: state for name, state in self.series.items() if name not in cut}
        self.lines, self.gone, self.series = [], set(), {}
        self.append([line.entry for line in lines], [line.given for line in lines])
        self.lines, self.gone = lines, gone  # as they were noted: a series may have begun anew since
        self.series = {name: state for name, state in self.series.items() if name in alive and name not in standing}
        self.series.update(standing)

    def hole_at(self, index: int) -> tuple[int, int]:
        """The run of removed entries around an index."""
        first = last = index
        while first - 1 in self.gone:
            first -= 1
        while last + 1 in self.gone:
            last += 1
        return first, last

    def count(self, view: View, before: int) -> int:
        """How many entries below an index the view lets through."""
        return sum(view.matches(line.draft.type, line.draft.level) for line in self.lines[: max(before, 0)])


def _text(data: Any, name: str) -> str | None:
    value = data.get(name) if isinstance(data, dict) else None
    return value if isinstance(value, str) else None


def _tracked(draft: EventDraft) -> str | None:
    return draft.series_id if draft.series_mode in TRACKED else None

"""How the events of one series merge: accumulate, latest, keep-all (wire spec, events section 3). Pure.

An accumulate series is a chain of *runs*. Within a run each entry adds a string to the text before it; a run ends
where an entry has nothing to add (no string in the field) or nothing to add to. The text of a run is kept as parts by
the store and never rewritten; what stands here is the bounded state that says whether, and where, the next entry adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskcast_core.models import EventDraft, Level, SeriesMode
from taskcast_core.values import frozen

DEFAULT_FIELD = "delta"
INFERRED_FIELD = "text"


@frozen
class SeriesState:
    """What a commit needs to know of a series' past.

    Attributes:
        mode, last_index: of its newest entry. field: the one that entry accumulated, None outside ``accumulate``.
        default_field: what an entry means that names no field. run: number of the current run.
        length: characters of the run's text, None when the newest entry has no text.
        data: the newest entry's own payload. last_by_kind: index of the newest accumulate entry per (type, level).
    """

    mode: SeriesMode
    last_index: int
    field: str | None
    default_field: str | None
    run: int
    length: int | None
    data: Any
    last_by_kind: Mapping[tuple[str, Level], int]


@frozen
class TextPart:
    """What one accumulate entry does to its series' text.

    Attributes:
        run: the run that it belongs to; a new number starts a new run.
        text: what it adds; None where it has no text at all. end: characters of the run's text after it.
        prefix: text that a new run begins with before ``text`` (a field of the entry before).
    """

    series_id: str
    index: int
    run: int
    field: str
    text: str | None
    end: int | None
    prefix: str = ""


def text_of(data: Any, field: str) -> str | None:
    """The string that a payload holds in a field, if it is an object and does."""
    value = data.get(field) if isinstance(data, dict) else None
    return value if isinstance(value, str) else None


def with_default_field(draft: EventDraft, previous: SeriesState | None) -> tuple[EventDraft, str | None]:
    """The draft as it is to be stored, and the series' default field.

    Where the first event of a series names no ``seriesAccField`` and has no string ``delta`` but a string ``text``, the
    series accumulates ``text``, and its events say so.
    """
    default = previous.default_field if previous else None
    if default is None:
        infers = (
            draft.series_acc_field is None
            and text_of(draft.data, DEFAULT_FIELD) is None
            and text_of(draft.data, INFERRED_FIELD) is not None
        )
        default = INFERRED_FIELD if infers else DEFAULT_FIELD
    if draft.series_acc_field is None and default == INFERRED_FIELD:
        draft = EventDraft(draft.type, draft.level, draft.data, draft.series_id, draft.series_mode, INFERRED_FIELD)
    return draft, default


def accumulate(series_id: str, draft: EventDraft, index: int, previous: SeriesState | None) -> TextPart:
    """How an accumulate entry continues (or restarts) the text of its series."""
    field = draft.series_acc_field or DEFAULT_FIELD
    added = text_of(draft.data, field)
    run = previous.run if previous else -1
    if added is None:
        return TextPart(series_id, index, run + 1, field, None, None)
    if previous and previous.field == field and previous.length is not None:
        return TextPart(series_id, index, run, field, added, previous.length + len(added))
    # Another field than before, or the series was not accumulating: its newest payload may hold text to start from.
    prefix = (text_of(previous.data, field) or "") if previous else ""
    return TextPart(series_id, index, run + 1, field, added, len(prefix) + len(added), prefix)


def folded(draft: EventDraft, text: str | None) -> Any:
    """An accumulate entry's payload with the total (None: it has none) in place of what it added."""
    return draft.data if text is None else {**draft.data, draft.series_acc_field or DEFAULT_FIELD: text}


def advance(draft: EventDraft, index: int, previous: SeriesState | None, default_field: str | None,
            part: TextPart | None) -> SeriesState:  # fmt: skip
    """The state of a series after its entry at ``index``."""
    seen = previous.last_by_kind if previous else {}
    if part is not None:
        seen = {**seen, (draft.type, draft.level): index}
    assert draft.series_mode is not None
    return SeriesState(
        mode=draft.series_mode,
        last_index=index,
        field=part.field if part else None,
        default_field=default_field,
        run=part.run if part else (previous.run if previous else -1),
        length=part.end if part else None,
        data=draft.data,
        last_by_kind=seen,
    )

"""The values that contracts exchange, as JSON and back: for stores that write calls down instead of rows.

A log copy with its entries and holes, a change with its guard, a worker: whatever a verb of a contract takes. What is
read back equals what was written. The text is for one store's own use; it is no wire format.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, get_args

import attrs
from cattrs.preconf.json import make_converter

from taskcast_core import models, wire
from taskcast_core.contracts.task_log import Record
from taskcast_core.entries import Entry, Hole, Origin
from taskcast_core.machine import Kind

_converter = make_converter()
_origin = lru_cache(maxsize=256)(Origin)


def to_plain(value: Any, kind: Any) -> Any:
    """A value of a contract's type ``kind`` as something that ``wire.dumps`` takes."""
    return _converter.unstructure(value, kind)


def of_plain(plain: Any, kind: Any) -> Any:
    """``to_plain`` read back."""
    return _converter.structure(plain, kind)


def _is_model(kind: Any) -> bool:
    return kind is Record or (attrs.has(kind) and kind.__module__ == models.__name__)


def _is_counts(kind: Any) -> bool:
    return get_args(kind)[:1] == (Kind,)


def _plain_entry(entry: Entry) -> list[Any]:
    of = entry.origin
    place = [of.task_id, of.epoch, of.salt, entry.index, entry.timestamp]
    return [*place, entry.text.decode(), entry.given_id, entry.run, entry.end]


def _entry_or_hole(value: Any, _: Any) -> Entry | Hole:
    if isinstance(value, dict):
        return _converter.structure(value, Hole)
    task_id, epoch, salt, index, timestamp, text, given_id, run, end = value
    entry = Entry.parse(_origin(task_id, epoch, salt), index, timestamp, text.encode(), given_id)
    entry.run, entry.end = run, end
    return entry


def _counts(value: Any, _: Any) -> dict[Kind, int]:
    return {(type_, level): n for type_, level, n in value}


_converter.register_unstructure_hook_func(_is_model, wire.to_wire)
_converter.register_structure_hook_func(_is_model, wire.from_wire)
_converter.register_unstructure_hook_func(_is_counts, lambda counts: [[*kind, n] for kind, n in counts.items()])
_converter.register_structure_hook_func(_is_counts, _counts)
_converter.register_unstructure_hook(Entry, _plain_entry)
_converter.register_structure_hook(Entry, _entry_or_hole)
_converter.register_structure_hook_func(lambda kind: kind == Entry | Hole, _entry_or_hole)

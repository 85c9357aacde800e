"""TaskLog: big and odd payloads come back exactly."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

from taskcast_core.contracts import TaskLog
from taskcast_core.testing.contract import Contract
from taskcast_core.testing.making import (
    created,
    current,
    delta,
    entries_of,
    latest,
    message,
    publish,
    replace,
    whole_log,
)


def _nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


ODD: dict[str, Any] = {
    "null": None,
    "empty": {"array": [], "object": {}, "string": "", "nested": [[], {}, [{}]]},
    "scalars": [True, False, 0, -0.0, 1, "1", None],
    "nul": "a\x00b",
    "controls": "".join(map(chr, range(32))),
    "lone-surrogates": {"text": "\ud83d", "more": ["\ude00", "a\udfffb"], "key\ud800": 1},
    "astral": "\U0001d4b3 😀 \U0010ffff \ufffe\uffff",
    "quotes": "\\\"'`\\u0000</script>\u2028\u2029",
    "integers": [2**63 - 1, -(2**63), 2**64 - 1, 2**53, 2**53 + 1, -(2**53) - 1],
    "floats": [0.1, 1e-300, 1.7976931348623157e308, 5e-324, 1e16, 123456789.123456789, 1.0, -1e-7],
    "key-order": {"z": 1, "a": 2, "m": {"y": 1, "b": 2}, "": 3, "10": 4, "9": 5},
    "awkward-keys": {"__proto__": 1, "$ref": 2, "a.b": 3, "type": "x", "data": None, "id": 7},
    "deep": _nested(100),
    "wide": {f"key{n}": n for n in range(2_000)},
    "numeric-text": ["007", "1e5", "NaN", "Infinity", "true", "null"],
}


def _text(value: Any) -> str:
    """With key order, and telling 1 from 1.0 and True."""
    return json.dumps(value)


class PayloadCases(Contract):
    """Opaque JSON stays as it was."""

    capability: ClassVar[str] = "TaskLog"
    promise: ClassVar[str] = "payloads of any size and shape come back exactly"

    @pytest.mark.parametrize("name", ODD)
    async def test_odd_data_of_an_event(self, store: TaskLog, name: str) -> None:
        task_id = (await created(store)).task.id
        await publish(store, task_id, message("odd", ODD[name]))
        assert [_text(e.data) for e in entries_of(await whole_log(store, task_id))] == [_text(ODD[name])]

    @pytest.mark.parametrize("name", ODD)
    async def test_odd_data_of_a_series(self, store: TaskLog, name: str) -> None:
        task_id = (await created(store)).task.id
        await publish(
            store, task_id, delta("s", "a", odd=ODD[name]), delta("s", "b", odd=ODD[name]), latest("l", ODD[name])
        )
        folded = await store.fold(task_id, "s", 1)
        assert _text(folded) == _text({"delta": "ab", "odd": ODD[name]})
        assert _text((await store.series(task_id)).states["l"].data) == _text(ODD[name])

    @pytest.mark.parametrize("name", ODD)
    async def test_odd_data_of_a_task(self, store: TaskLog, name: str) -> None:
        odd = {"odd": ODD[name]}
        before = await created(store, params=odd, metadata=odd)
        await replace(store, before, result=odd)
        task = (await current(store, before.task.id)).task
        assert [_text(value) for value in (task.params, task.metadata, task.result)] == [_text(odd)] * 3

    @pytest.mark.parametrize("word", ["a\x00b", "\ud83d", "ключ", "with space", "a:b{c}*", "x" * 200, "%s' OR 1=1 --"])
    async def test_odd_names(self, store: TaskLog, word: str) -> None:
        task_id = (await created(store, type=word, tags=(word,))).task.id
        await publish(store, task_id, message(word), delta(word, "a"), delta(word, "b"), delta("field", "c", word))
        entries = entries_of(await whole_log(store, task_id))
        assert [(e.type, e.series_id) for e in entries] == [
            (word, None), ("delta", word), ("delta", word), ("delta", "field"),
        ]  # fmt: skip
        assert await store.fold(task_id, word, 2) == {"delta": "ab"}
        assert await store.fold(task_id, "field", 3) == {word: "c"}

    async def test_a_mebibyte_and_pages_that_end_early(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        big = "x" * (1 << 20)
        for n in range(4):
            await publish(store, task_id, message("big", [n, big]), message("small", n))
        page = await store.read(task_id)
        assert 1 <= len(page.items) <= 4, "a page ends once its texts pass about a mebibyte"
        assert [e.type for e in entries_of(await whole_log(store, task_id))] == ["big", "small"] * 4
        last = await store.read(task_id, reverse=True)
        assert 1 <= len(last.items) <= 4 and last.log_last == 7
        assert entries_of(last.items)[-1].data == 3

    async def test_a_long_log(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        for start in range(0, 10_000, 500):
            await publish(store, task_id, *[message(data=n) for n in range(start, start + 500)])
        entries = entries_of(await whole_log(store, task_id))
        assert [e.data for e in entries] == list(range(10_000))

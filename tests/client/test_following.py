"""Which events are new, and what to ask for next: the pure part of a stream."""

import json
from typing import Any

import pytest

from taskcast_client.errors import InvalidReply
from taskcast_client.following import Position, StreamFilter
from taskcast_client.models import Cursor


def frame(index: int, **more: Any) -> bytes:
    body = {
        "filteredIndex": index, "rawIndex": index, "eventId": f"e{index}", "taskId": "t", "type": "x", "timestamp": 1,
        "level": "info", "data": None,
    } | more  # fmt: skip
    line = f"id: {body['eventId']}\n" if body["eventId"] else ""
    return f"event: taskcast.event\ndata: {json.dumps(body)}\n{line}\n".encode()


GAP = {"type": "taskcast:gap", "eventId": "", "data": {"reason": "epoch", "nextIndex": 0}}


def indexes(position: Position, *frames: bytes) -> list[int]:
    return [event.raw_index for each in frames for event in position.feed(each)]


def test_the_first_connection_asks_for_what_the_reader_wants() -> None:
    wanted = StreamFilter(types=("llm.*", "x"), levels=(), include_status=False, series_format="accumulated", limit=5)
    assert Position(wanted).connect() == {
        "types": "llm.*,x", "levels": "", "includeStatus": "false", "seriesFormat": "accumulated", "limit": "5",
    }  # fmt: skip
    assert Position(StreamFilter()).connect() == {}
    assert Position(StreamFilter(since="e7")).connect() == {"since.id": "e7", "resume": "snapshot"}
    assert Position(StreamFilter(since=Cursor(timestamp=5))).connect() == {
        "since.timestamp": "5",
        "resume": "snapshot",
    }


def test_later_ones_go_on_after_the_last_event() -> None:
    position = Position(StreamFilter(types=("x",), limit=5))
    position.connect()
    assert indexes(position, frame(0), frame(1) + frame(2)[:30]) == [0, 1]
    assert position.connect() == {"types": "x", "since.id": "e1", "resume": "snapshot"}
    assert indexes(position, frame(2), frame(3)) == [2, 3]


def test_what_comes_twice_is_given_once() -> None:
    position = Position(StreamFilter())
    position.connect()
    assert indexes(position, frame(0), frame(1), frame(1), frame(0), frame(2)) == [0, 1, 2]
    position.connect()
    assert indexes(position, frame(0), frame(2), frame(3)) == [3]


def test_a_replay_out_of_order_is_given_whole() -> None:
    """The reference puts a snapshot where its series began, before events with smaller indexes."""
    position = Position(StreamFilter())
    position.connect()
    assert indexes(position, frame(0), frame(5, seriesSnapshot=True), frame(2), frame(4), frame(6)) == [0, 5, 2, 4, 6]


def test_a_gap_begins_anew() -> None:
    position = Position(StreamFilter(since="lost"))
    position.connect()
    assert indexes(position, frame(-1, **GAP), frame(0), frame(1)) == [-1, 0, 1]
    assert position.connect()["since.id"] == "e1"
    assert indexes(position, frame(-1, **GAP)) == [-1]
    assert position.connect() == {}, "the lost cursor is not asked for again"
    assert indexes(position, frame(0), frame(1)) == [0, 1]


def test_done_and_unknown_frames() -> None:
    position = Position(StreamFilter())
    position.connect()
    assert not indexes(position, b"event: news\ndata: {}\n\n", b": keep-alive\n\n", b"retry: 700\n\n")
    assert (position.done, position.retry_ms) == (None, 700)
    assert not indexes(position, b'event: taskcast.done\ndata: {"reason":"failed"}\n\n')
    assert position.done == "failed"


@pytest.mark.parametrize("data", ["{", "[]", "{}", '{"rawIndex":"x"}'])
def test_what_is_no_stream_is_said(data: str) -> None:
    position = Position(StreamFilter())
    position.connect()
    with pytest.raises(InvalidReply):
        indexes(position, f"event: taskcast.event\ndata: {data}\n\n".encode())

"""What reaches the user's terminal, whatever the server sends."""

import json

import pytest

from taskcast_server.cli.logs import event_line
from taskcast_server.cli.output import compact_json, fitted, local_time, printable


@pytest.mark.parametrize("value", ["ä€😀", "half \ud83d", "\x9b31m and \x7f", {"a": ["\x1b[2J", None, 1.5]}])
def test_json_can_be_shown_and_read_back(value: object) -> None:
    text = compact_json(value)
    assert json.loads(text) == value
    text.encode()
    assert all(character >= " " and not "\x7f" <= character <= "\x9f" for character in text)


def test_texts_of_others_cannot_command_the_terminal() -> None:
    assert printable("a\x1b[31mb\nc\x9bd\ud800") == "a\ufffd[31mb\ufffdc\ufffdd\ufffd"
    event = {"taskId": "\x1b[2J1234567", "type": "t\x1b]0;x\x07", "level": "info", "timestamp": 0, "data": "\x9b"}
    assert not {"\x1b", "\x07", "\x9b"} & set(event_line(event, with_task=True))


def test_an_event_as_a_line() -> None:
    event = {"taskId": "01ABCDEFGH", "type": "llm.delta", "level": "warn", "timestamp": 0, "data": {"d": "ä"}}
    time = local_time(0, "%H:%M:%S")
    assert event_line(event) == f'[{time}] llm.delta        warn  {{"d":"ä"}}'
    assert event_line(event, with_task=True) == f'[{time}] 01ABCDE.. llm.delta        warn  {{"d":"ä"}}'


def test_times_that_are_none() -> None:
    assert [local_time(each) for each in (None, "x", True, 1e300, float("nan"))] == ["-"] * 5


def test_a_table() -> None:
    assert fitted(("A", "B"), [("long", "x"), ("s", "")]) == ["A     B", "long  x", "s"]

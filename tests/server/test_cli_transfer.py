"""How `taskcast import` finds its way through a file."""

import io
import json

import pytest

from taskcast_server.cli import transfer
from taskcast_server.cli.output import CliError
from taskcast_server.cli.transfer import Documents

ODD = {"a": [{"b": 'x"}]{[\\" \\'}, {}, []], "c": "ü" * 50}


@pytest.mark.parametrize("part", [1, 3, 1_000])
def test_documents_one_behind_the_other(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_PART", part)
    text = json.dumps(ODD) + "\n" + json.dumps(ODD, indent=2) + json.dumps({}) + "\n \n"
    documents = Documents(io.BytesIO(text.encode()))
    found = []
    while documents.has_more():
        found.append(json.loads(b"".join(documents.next())))
    assert found == [ODD, ODD, {}]


def test_what_is_no_document() -> None:
    assert not Documents(io.BytesIO(b" \n")).has_more()
    with pytest.raises(CliError, match="neither"):
        Documents(io.BytesIO(b"[{}]")).has_more()
    for broken in (b'{"a": [1, 2}', b'{"a": "x', b"{"):
        documents = Documents(io.BytesIO(broken))
        assert documents.has_more()
        with pytest.raises(CliError, match="ends within"):
            list(documents.next())

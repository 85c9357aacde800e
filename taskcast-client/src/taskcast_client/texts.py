"""The text of one accumulate series, put together from deltas and snapshots. Pure.

The text is kept in pieces until somebody looks at it, so that a long answer costs the same per token as a short one.
"""

from __future__ import annotations

from taskcast_client.models import Envelope, Event

DEFAULT_FIELD = "delta"


class SeriesText:
    """One series' text. A snapshot replaces it, a delta continues it, a gap empties it."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """The text so far."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def would_replace(self, event: Envelope | Event) -> bool:
        """Whether the text after this event need not begin with the text before it."""
        return event.series_snapshot or _piece(event) is None

    def apply(self, event: Envelope | Event) -> str | None:
        """Take in an event of this series, or a gap; the text that it brought, None if the text is as it was.

        An event without text makes the series begin anew, as it does on the server.
        """
        piece = _piece(event)
        if piece is None:
            had_text = bool(self._pieces)
            self._pieces.clear()
            return "" if had_text else None
        if event.series_snapshot:
            self._pieces.clear()
        self._pieces.append(piece)
        return piece


def _piece(event: Envelope | Event) -> str | None:
    if not isinstance(event.data, dict):
        return None
    piece = event.data.get(event.series_acc_field or DEFAULT_FIELD)
    return piece if isinstance(piece, str) else None

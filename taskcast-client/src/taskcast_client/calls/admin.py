"""For those who run the server: deliveries that failed, figures, and the configuration (scope ``admin``)."""

from __future__ import annotations

from taskcast_client.calls.call import Call, nothing, query_of, reading, segment, writing
from taskcast_client.models import ConfigChange, ConfigVerdict, DeadLetterPage, JsonObject, Redelivery, ServerConfig
from taskcast_client.wire import dumps, from_wire

_LETTERS = "/admin/dead-letters"


def list_dead_letters(*, limit: int | None = None, after: str | None = None) -> Call[DeadLetterPage]:
    """Webhook deliveries that were given up, oldest first; ``after``: the ``next_after`` of the page before."""
    return reading(_LETTERS, DeadLetterPage, {"limit": limit, "after": after})


def retry_dead_letter(letter_id: str) -> Call[Redelivery]:
    """Deliver one again, at once, and forget it if that went well.

    Raises:
        NotFound: there is no such letter. Conflict: nothing is left to deliver, or nowhere to deliver it to.
    """
    path = f"{_LETTERS}/{segment(letter_id)}/retry"
    return Call("POST", path, lambda reply: from_wire(Redelivery, reply.json()), repeat="never")


def discard_dead_letter(letter_id: str) -> Call[None]:
    """Forget one.

    Raises:
        NotFound: there is no such letter.
    """
    return Call("DELETE", f"{_LETTERS}/{segment(letter_id)}", nothing, gone=True)


def get_metrics() -> Call[JsonObject]:
    """The server's figures, by name.

    Raises:
        NotFound: it keeps none.
    """
    return Call("GET", "/metrics.json", lambda reply: dict(reply.json()), query=query_of({}))


def get_config() -> Call[ServerConfig]:
    """What the server process runs with, secrets masked.

    Raises:
        NotFound: it is embedded, and has no configuration of its own.
    """
    return reading("/admin/config", ServerConfig)


def validate_config(config: JsonObject) -> Call[ConfigVerdict]:
    """What the server would say of a whole configuration; nothing changes."""
    return Call(
        "POST", "/admin/config/validate", lambda reply: from_wire(ConfigVerdict, reply.json()), body=dumps(config)
    )


def change_config(config: JsonObject) -> Call[ConfigChange]:
    """Change parts of what one server process runs with, until it ends.

    Raises:
        InvalidInput: a value is wrong, or not of a part that can change.
    """
    return writing("PUT", "/admin/config", ConfigChange, config, repeat="safe")

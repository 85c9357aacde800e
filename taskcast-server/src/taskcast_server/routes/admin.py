"""For those who run the server: the admin token, and webhooks that could not be delivered."""

from __future__ import annotations

from typing import Any

from taskcast_core import wire
from taskcast_core.contracts.followers import DeadLetter
from taskcast_core.errors import Unauthorized
from taskcast_server.calls import Call
from taskcast_server.errors import LetterNotFound, LetterUndeliverable, MalformedBody, RouteNotFound
from taskcast_server.requests import read_limit
from taskcast_server.responses import NO_CONTENT, Reply, json_reply
from taskcast_server.routes.documents import INTEGER, lists_of, record
from taskcast_server.routing import Doc, Parameter, Route

_PAGE = 100


async def exchange_token(call: Call) -> Reply:
    """``POST /admin/token``: asks for the admin token instead of a caller's; wrong ones are counted by address."""
    desk = call.services.admin
    if desk is None:
        raise RouteNotFound
    try:
        body = await call.json()
    except MalformedBody:
        raise MalformedBody("Invalid request body") from None
    given = body if isinstance(body, dict) else {}
    if not desk.admits(given.get("adminToken")):
        call.services.admin_attempts.take(call.client_host)
        raise Unauthorized("Invalid admin token")
    minted = desk.exchange(given.get("adminToken"), given.get("scopes"), given.get("expiresIn"))
    return json_reply({"token": minted.token, "expiresAt": minted.expires_at})


async def list_letters(call: Call) -> Reply:
    """``GET /admin/dead-letters``."""
    limit = min(read_limit(call.query.get("limit")) or _PAGE, _PAGE)
    found = await call.services.engine.store.dead_letters(limit, call.query.get("after") or None)
    body: dict[str, Any] = {"deadLetters": [shown_letter(letter) for letter in found]}
    if len(found) == limit:
        body["nextAfter"] = found[-1].id
    return json_reply(body)


def shown_letter(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter as replies show it."""
    shown: dict[str, Any] = wire.to_wire(letter)
    return shown


async def retry_letter(call: Call) -> Reply:
    """``POST /admin/dead-letters/{letterId}/retry``: one attempt, at once."""
    if call.services.webhooks is None:
        raise LetterUndeliverable("This server delivers no webhooks")
    outcome = await call.services.webhooks.retry(call.params["letterId"])
    if outcome.delivered:
        return json_reply({"delivered": True})
    return json_reply({"delivered": False, "reason": outcome.reason})


async def discard_letter(call: Call) -> Reply:
    """``DELETE /admin/dead-letters/{letterId}``."""
    if await call.services.engine.store.take_dead_letter(call.params["letterId"]) is None:
        raise LetterNotFound
    return NO_CONTENT


_TOKEN = record(token={"type": "string"}, expiresAt=INTEGER)
_LETTERS = record(deadLetters=lists_of("DeadLetter"))
_LETTERS["properties"] = {**_LETTERS["properties"], "nextAfter": {"type": "string"}}

ROUTES = (
    Route(
        "POST", "/admin/token", exchange_token,
        Doc(
            "Exchange the admin token for a token of the API", "Admin",
            {200: ("a token; empty where this server signs none", _TOKEN), 400: "not JSON", 401: "wrong admin token",
             404: "there is no admin API", 413: "body too large", 429: "too many attempts"},
            body="AdminTokenInput",
        ),
    ),
    Route(
        "GET", "/admin/dead-letters", list_letters,
        Doc(
            "Webhook deliveries that were given up", "Admin", {200: ("a page, oldest first", _LETTERS)},
            parameters=(
                Parameter("limit", f"at most {_PAGE}", schema=INTEGER),
                Parameter("after", "nextAfter of the page before"),
            ),
        ),
        scope="admin",
    ),
    Route(
        "POST", "/admin/dead-letters/{letterId}/retry", retry_letter,
        Doc(
            "Deliver one again", "Admin",
            {200: ("how that went", {"type": "object", "properties": {
                "delivered": {"type": "boolean"}, "reason": {"type": "string"}}, "required": ["delivered"]}),
             404: "no such letter", 409: "there is nothing left to deliver, or nowhere to deliver it to"},
        ),
        scope="admin",
    ),
    Route(
        "DELETE", "/admin/dead-letters/{letterId}", discard_letter,
        Doc("Forget one", "Admin", {204: "it is gone", 404: "no such letter"}),
        scope="admin",
    ),
)  # fmt: skip

"""For those who run the server: the admin token, webhooks that could not be delivered, and the configuration."""

from __future__ import annotations

from typing import Any

from taskcast_core import wire
from taskcast_core.contracts.followers import DeadLetter
from taskcast_core.errors import Unauthorized
from taskcast_server.calls import Call
from taskcast_server.errors import LetterNotFound, LetterUndeliverable, MalformedBody, RouteNotFound
from taskcast_server.live_config import LiveConfig
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


async def show_config(call: Call) -> Reply:
    """``GET /admin/config``."""
    return json_reply(_config(call).shown())


async def validate_config(call: Call) -> Reply:
    """``POST /admin/config/validate``: the body is a whole configuration; nothing is changed."""
    config = _config(call)
    return json_reply(config.judge(await call.json_object()).shown())


async def change_config(call: Call) -> Reply:
    """``PUT /admin/config``: what the body gives, of the parts that can change."""
    config = _config(call)
    given = await call.json_object()
    request_id = call.request_id.decode("latin-1")
    return json_reply(await config.change(given, call.principal.subject or call.caller, request_id))


def _config(call: Call) -> LiveConfig:
    """Raises RouteNotFound: an embedded application has no configuration of its own."""
    if call.services.config is None:
        raise RouteNotFound
    return call.services.config


_TOKEN = record(token={"type": "string"}, expiresAt=INTEGER)
_LETTERS = record(deadLetters=lists_of("DeadLetter"))
_LETTERS["properties"] = {**_LETTERS["properties"], "nextAfter": {"type": "string"}}

_TREE = {"type": "object", "additionalProperties": True}
_NONE = "this application has no configuration of its own"
_CONFIG = record(settings=_TREE, live=_TREE, changes={"type": "array", "items": _TREE})
_VERDICT = record(
    valid={"type": "boolean"},
    errors={"type": "array", "items": record(path={"type": "string"}, message={"type": "string"})},
    warnings={"type": "array", "items": {"type": "string"}},
)
_CHANGE = record(at=INTEGER, by={"type": "string"}, requestId={"type": "string"}, changed=_TREE)

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
    Route(
        "GET", "/admin/config", show_config,
        Doc("What this process runs with, secrets masked", "Admin", {200: ("the configuration", _CONFIG), 404: _NONE}),
        scope="admin",
    ),
    Route(
        "POST", "/admin/config/validate", validate_config,
        Doc("What a server would say of a configuration; nothing changes", "Admin",
            {200: ("the verdict", _VERDICT), 404: _NONE}, body=_TREE),
        scope="admin",
    ),
    Route(
        "PUT", "/admin/config", change_config,
        Doc("Change what can change in this process while it runs: logLevel, limits, cors, cleanup, "
            "webhook.defaultRetry", "Admin", {200: ("what was changed", _CHANGE), 404: _NONE}, body=_TREE),
        scope="admin",
    ),
)  # fmt: skip

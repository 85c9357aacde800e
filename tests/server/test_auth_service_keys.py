"""Trusted services, in front of every mode."""

import pytest

from taskcast_core.contracts.auth import Principal
from taskcast_core.errors import ConfigError, Unauthorized
from taskcast_server.auth.assembly import GuardedAuthenticator
from taskcast_server.auth.jwt import open_jwt
from taskcast_server.auth.none import OPEN, OpenAuthenticator
from taskcast_server.auth.options import JwtOptions, TrustedService
from taskcast_server.auth.service_keys import ServiceKeys
from tests.server.auth_material import SECRET, connection, token

pytestmark = pytest.mark.anyio

SERVICES = ServiceKeys([
    TrustedService("billing", "key-of-billing", ("task:create",)),
    TrustedService("viewer", "schlüssel-✓", ("event:subscribe",), ("t-1", "t-2")),
])  # fmt: skip


async def ask(mode: str = "jwt", **headers: str) -> Principal | str:
    """The principal, or the message of the refusal."""
    asked = connection(**headers)
    try:
        if mode == "none":
            guarded = GuardedAuthenticator(SERVICES, OpenAuthenticator(), api_key_decides=False)
            return await guarded.authenticate(asked)
        async with open_jwt(JwtOptions(secret=SECRET)) as inner:
            return await GuardedAuthenticator(SERVICES, inner, api_key_decides=True).authenticate(asked)
    except Unauthorized as refusal:
        return str(refusal)


@pytest.mark.parametrize("mode", ["jwt", "none"])
@pytest.mark.parametrize("header", ["x_taskcast_service_key", "x_api_key", "authorization"])
async def test_a_key_is_taken_from_three_headers_in_every_mode(mode: str, header: str) -> None:
    for key, name in (("key-of-billing", "svc:billing"), ("schlüssel-✓", "svc:viewer")):
        value = f"Bearer {key}" if header == "authorization" else key
        principal = await ask(mode, **{header: value})
        assert isinstance(principal, Principal) and principal.subject == principal.name == name


async def test_scopes_and_tasks_are_those_of_the_service() -> None:
    billing, viewer = SERVICES.find("key-of-billing"), await ask(x_api_key="schlüssel-✓")
    assert billing and isinstance(viewer, Principal)
    assert billing.allows("task:create", "anything") and not billing.allows("event:subscribe")
    assert viewer.allows("event:subscribe", "t-1") and not viewer.allows("event:subscribe", "t-3")
    assert viewer.claims == {"sub": "svc:viewer"} and viewer.expires_at is None


@pytest.mark.parametrize("mode", ["jwt", "none"])
async def test_a_wrong_service_key_is_never_overruled(mode: str) -> None:
    good = f"Bearer {token('HS256')}"
    for wrong in ("", "nope", "key-of-billin", "key-of-billing ", "Bearer key-of-billing"):
        assert await ask(mode, x_taskcast_service_key=wrong, authorization=good) == "Invalid service key"
        assert await ask(mode, x_taskcast_service_key=wrong, x_api_key="key-of-billing") == "Invalid service key"


async def test_bearer_and_api_key_fall_through_to_the_mode() -> None:
    good = f"Bearer {token('HS256')}"
    for headers in ({"authorization": good}, {"authorization": good, "x_api_key": "nope"}):
        principal = await ask(**headers)
        assert isinstance(principal, Principal) and principal.subject == "user"
    assert await ask(authorization="Bearer nope") == "Invalid or expired token"
    assert await ask(x_api_key="nope") == "Invalid service key"
    assert await ask() == "Missing Bearer token"
    assert await ask("none", x_api_key="nope", authorization="Bearer nope") is OPEN


async def test_without_services_the_headers_mean_nothing() -> None:
    guarded = GuardedAuthenticator(ServiceKeys([]), OpenAuthenticator(), api_key_decides=True)
    assert await guarded.authenticate(connection(x_taskcast_service_key="x", x_api_key="y")) is OPEN


def test_two_services_cannot_share_a_key() -> None:
    with pytest.raises(ConfigError, match="viewer has the key of another"):
        ServiceKeys([TrustedService("billing", "same"), TrustedService("viewer", "same")])


@pytest.mark.parametrize(("name", "key"), [("", "key"), ("name", "")])
def test_name_and_key_are_needed(name: str, key: str) -> None:
    with pytest.raises(ValueError, match="needs a name and a key"):
        TrustedService(name, key)


def test_keys_do_not_show() -> None:
    assert "key-of-billing" not in repr(TrustedService("billing", "key-of-billing"))

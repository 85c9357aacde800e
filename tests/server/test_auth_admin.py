"""The admin token, and tokens of our own making."""

import time
from typing import Any

import jwt
import pytest

from taskcast_core.contracts.auth import Principal
from taskcast_core.errors import ConfigError, Unauthorized
from taskcast_server.auth.admin import AdminDesk, can_sign, may_administer, mint_token, open_admin_desk
from taskcast_server.auth.jwt import open_jwt
from taskcast_server.auth.options import AccessOptions, JwtOptions
from tests.server.auth_material import HMAC, SECRET, bearer, public_pem

pytestmark = pytest.mark.anyio


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


@pytest.mark.parametrize("algorithm", [*HMAC, None])
async def test_a_minted_token_is_one_that_this_server_accepts(algorithm: Any) -> None:
    options = JwtOptions(algorithm=algorithm, secret=SECRET, issuer="us", audience="them")
    minted = mint_token(options, ["event:subscribe"], ["t-1"], 60, "dev")
    assert jwt.get_unverified_header(minted.token)["alg"] == (algorithm or "HS256")
    async with open_jwt(options) as authenticator:
        principal = await authenticator.authenticate(bearer(minted.token))
    assert principal.allows("event:subscribe", "t-1") and not principal.allows("event:subscribe", "t-2")
    assert principal.subject == "dev" and principal.expires_at == minted.expires_at
    assert abs(minted.expires_at - time.time() - 60) < 5


@pytest.mark.parametrize(
    "options",
    [
        JwtOptions(),
        JwtOptions(algorithm="RS256", public_key=public_pem("RS256")),
        JwtOptions(algorithm="RS256", secret=SECRET, public_key=public_pem("RS256")),
        JwtOptions(jwks_url="https://example.com"),
    ],
)
def test_only_a_shared_secret_can_sign(options: JwtOptions) -> None:
    assert not can_sign(options)
    with pytest.raises(ConfigError, match="shared secret"):
        mint_token(options)
    assert AdminDesk("token", options).exchange("token").token == ""


def test_the_exchange_of_the_wire_spec() -> None:
    desk = AdminDesk("admin-token", JwtOptions(secret=SECRET))
    minted = desk.exchange("admin-token")
    claims = claims_of(minted.token)
    assert (claims["sub"], claims["scope"], claims["taskIds"]) == ("admin", ["*"], "*")
    assert claims["exp"] == minted.expires_at == claims["iat"] + 86_400
    minted = desk.exchange("admin-token", ["event:subscribe", 5], 60.9)
    claims = claims_of(minted.token)
    assert claims["scope"] == ["event:subscribe"] and claims["exp"] - claims["iat"] == 60


@pytest.mark.parametrize("expires_in", [None, 0, -1, "60", True, float("nan"), [], {}])
def test_what_is_no_positive_number_is_a_day(expires_in: object) -> None:
    for signing in (JwtOptions(secret=SECRET), None):
        minted = AdminDesk("admin-token", signing).exchange("admin-token", None, expires_in)
        assert abs(minted.expires_at - time.time() - 86_400) < 5


@pytest.mark.parametrize("expires_in", [1e300, float("inf"), 10**400], ids=["1e300", "inf", "10**400"])
def test_lives_are_bounded(expires_in: float) -> None:
    minted = AdminDesk("admin-token", JwtOptions(secret=SECRET)).exchange("admin-token", None, expires_in)
    assert minted.expires_at < time.time() + 11 * 366 * 86_400


@pytest.mark.parametrize("scopes", [None, "event:subscribe", {"a": 1}, 5])
def test_what_is_no_list_of_scopes_is_all(scopes: object) -> None:
    minted = AdminDesk("admin-token", JwtOptions(secret=SECRET)).exchange("admin-token", scopes)
    assert claims_of(minted.token)["scope"] == ["*"]


@pytest.mark.parametrize("candidate", [None, "", "admin-toke", "admin-token ", 5, True, [], ["admin-token"], "\ud800"])
def test_the_wrong_admin_token(candidate: object) -> None:
    with pytest.raises(Unauthorized, match=r"^Invalid admin token$"):
        AdminDesk("admin-token").exchange(candidate)


def test_a_token_is_made_where_none_is_given() -> None:
    one, other = AdminDesk(), AdminDesk("")
    assert one.was_generated and other.was_generated and len(one.token) == 26 and one.token != other.token
    assert one.exchange(one.token) and one.token not in repr(one)
    assert not AdminDesk("given").was_generated


def test_the_desk_is_closed_unless_configured() -> None:
    assert open_admin_desk(AccessOptions(admin_token="x"), None) is None
    desk = open_admin_desk(AccessOptions(admin_api=True, admin_token="x"), None)
    assert desk and desk.admits("x") and "'x'" not in repr(AccessOptions(admin_token="x"))


@pytest.mark.parametrize(
    ("scopes", "task_ids", "may"),
    [
        ({"*"}, None, True), ({"admin"}, None, True), ({"task:manage"}, None, False), ({"*"}, {"t"}, False),
        (set(), None, False),
    ],
)  # fmt: skip
def test_who_may_administer(scopes: set[str], task_ids: set[str] | None, may: bool) -> None:
    confined = None if task_ids is None else frozenset(task_ids)
    assert may_administer(Principal(scopes=frozenset(scopes), task_ids=confined)) is may

"""Every algorithm against every defect that a token can have."""

import json
import logging
import time
from collections.abc import Callable

import pytest

from taskcast_core.clock import Clock
from taskcast_core.errors import ConfigError, Unauthorized
from taskcast_server.auth.jwt import JwtAuthenticator, open_jwt
from taskcast_server.auth.keys import OneKey, read_key
from taskcast_server.auth.options import JwtOptions
from tests.server.auth_material import (
    HMAC,
    OTHER_SECRET,
    PUBLIC,
    SECRET,
    bearer,
    claims,
    connection,
    options_for,
    public_pem,
    raw_token,
    segment,
    token,
)

pytestmark = pytest.mark.anyio

ALGORITHMS = HMAC + PUBLIC
INVALID = "Invalid or expired token"


def material(algorithm: str) -> bytes:
    """What everybody knows of the key (or, for HMAC, what they might guess)."""
    return OTHER_SECRET.encode() if algorithm in HMAC else public_pem(algorithm).encode()


def tampered(algorithm: str) -> str:
    header, _, signature = token(algorithm).split(".")
    return f"{header}.{segment(json.dumps(claims(scope=['*'])).encode())}.{signature}"


def other_algorithm(algorithm: str) -> str:
    """One that the same key could be used with, where there is one."""
    family = [each for each in ALGORITHMS if each[:2] == algorithm[:2] and each != algorithm]
    if algorithm.startswith("RS"):
        family = ["PS" + algorithm[2:]]
    return token((family or ["RS256"])[0])


def with_claims(**changes: object) -> Callable[[str], str]:
    return lambda algorithm: token(algorithm, claims(**changes))


NOW = int(time.time())
DEFECTS: dict[str, Callable[[str], str]] = {
    "another key": lambda a: token(a, number=1),
    "HMAC with the public key": lambda a: raw_token({"alg": "HS256", "typ": "JWT"}, claims(), material(a)),
    "alg none": lambda _: raw_token({"alg": "none"}, claims(), None),
    "alg None": lambda _: raw_token({"alg": "None"}, claims(), None),
    "alg missing": lambda _: raw_token({"typ": "JWT"}, claims(), None),
    "alg null": lambda _: raw_token({"alg": None}, claims(), None),
    "alg a list": lambda a: raw_token({"alg": [a]}, claims(), None),
    "another algorithm, same key": other_algorithm,
    "signature stripped": lambda a: token(a).rpartition(".")[0] + ".",
    "signature cut": lambda a: token(a)[:-8],
    "payload tampered": tampered,
    "expired": with_claims(exp=NOW - 1),
    "expires at zero": with_claims(exp=0),
    "exp a text": with_claims(exp=str(NOW + 86_400)),
    "exp true": with_claims(exp=True),
    "exp infinite": with_claims(exp=float("inf")),
    "exp not a number": with_claims(exp=float("nan")),
    "not yet valid": with_claims(nbf=NOW + 86_400),
    "nbf a text": with_claims(nbf="0"),
    "iss missing": with_claims(iss=None),
    "iss wrong": with_claims(iss="someone"),
    "aud missing": with_claims(aud=None),
    "aud wrong": with_claims(aud="elsewhere"),
    "aud a list without ours": with_claims(aud=["x", "y"]),
    "scope a text": with_claims(scope="event:subscribe task:create"),
    "scope of numbers": with_claims(scope=[1]),
    "taskIds a text": with_claims(taskIds="t-1"),
    "taskIds a number": with_claims(taskIds=7),
    "taskIds of numbers": with_claims(taskIds=[7]),
    "sub a number": lambda a: raw_sub(a),
    "workerId a number": with_claims(workerId=9),
    "crit header unknown": lambda a: token(a, crit=["exp"]),
    "empty": lambda _: "",
    "rubbish": lambda _: "not.a.token",
    "two parts": lambda a: token(a).rpartition(".")[0],
    "header deeply nested": lambda _: segment(b'{"alg":' + b"[" * 3000 + b"]" * 3000 + b"}") + ".e30.e30",
    "far too long": lambda a: token(a, claims(filler="x" * 20_000)),
    "not ASCII": lambda a: token(a) + "é",
}


def raw_sub(algorithm: str) -> str:
    if algorithm not in HMAC:
        return token(algorithm, claims(workerId=[1]))
    return raw_token({"alg": algorithm}, claims(sub=5), SECRET.encode())


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_defective_token_is_refused(algorithm: str, defect: str) -> None:
    async with open_jwt(options_for(algorithm, issuer="issuer", audience="audience")) as authenticator:
        for _ in range(2):  # nothing defective is remembered
            with pytest.raises(Unauthorized) as caught:
                await authenticator.authenticate(bearer(DEFECTS[defect](algorithm)))
            assert str(caught.value) == INVALID
        assert await authenticator.authenticate(bearer(token(algorithm)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_good_token_becomes_a_principal(algorithm: str) -> None:
    expires = NOW + 86_400
    payload = claims(
        taskIds=["a", "b"], scope=["event:subscribe", "unheard:of"], workerId="w", exp=expires, plan="pro",
        aud=["x", "audience"], nbf=NOW - 5, iat=NOW + 30,
    )  # fmt: skip
    async with open_jwt(options_for(algorithm, issuer="issuer", audience="audience")) as authenticator:
        principal = await authenticator.authenticate(bearer(token(algorithm, payload)))
    assert principal.subject == "user" and principal.name == "jwt:user" and principal.worker_id == "w"
    assert principal.task_ids == {"a", "b"} and principal.expires_at == expires
    assert principal.claims["plan"] == "pro"
    assert principal.allows("event:subscribe", "a") and not principal.allows("event:subscribe", "c")
    assert not principal.allows("task:create")


async def test_absent_claims_have_their_defaults() -> None:
    async with open_jwt(JwtOptions(secret=SECRET)) as authenticator:
        principal = await authenticator.authenticate(bearer(token("HS256", {"aud": "anything", "iss": "anyone"})))
        renewed = await authenticator.authenticate(
            bearer(token("HS256", {"aud": "anything", "iss": "anyone", "exp": NOW + 86_400}))
        )
        other = await authenticator.authenticate(bearer(token("HS256", {"taskIds": ["x"]})))
    assert principal.scopes == frozenset() and principal.task_ids is None and principal.expires_at is None
    assert principal.name == renewed.name != other.name, "callers without a subject are still told apart"


@pytest.mark.parametrize("header", [None, "Basic abc", "bearer x", "Bearer", "BEARER x", "Token x"])
async def test_without_bearer_prefix(header: str | None) -> None:
    async with open_jwt(JwtOptions(secret=SECRET)) as authenticator:
        asked = connection(authorization=header) if header is not None else connection()
        with pytest.raises(Unauthorized, match=r"^Missing Bearer token$"):
            await authenticator.authenticate(asked)


async def test_without_any_key_nobody_gets_in(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with open_jwt(JwtOptions()) as authenticator:
            for asked in (connection(), bearer(token("HS256"))):
                with pytest.raises(Unauthorized, match=r"^Unauthorized$"):
                    await authenticator.authenticate(asked)
    assert len(caplog.records) == 1 and "auth.jwt" in caplog.text


class HandClock(Clock):
    ms = NOW * 1000

    def now_ms(self) -> int:
        return self.ms


class CountingKeys:
    def __init__(self, options: JwtOptions) -> None:
        self.inner = OneKey(read_key(options))
        self.asked = 0

    async def find(self, algorithm: str, kid: str | None) -> object:
        self.asked += 1
        return await self.inner.find(algorithm, kid)


async def test_a_verified_token_is_remembered_but_not_beyond_its_expiry() -> None:
    clock, keys = HandClock(), CountingKeys(options_for("RS256"))
    authenticator = JwtAuthenticator(keys, clock=clock)  # type: ignore[arg-type]
    text = token("RS256", claims(exp=NOW + 10))
    for _ in range(100):
        await authenticator.authenticate(bearer(text))
    assert keys.asked == 1
    clock.ms += 10_000
    with pytest.raises(Unauthorized):
        await authenticator.authenticate(bearer(text))


async def test_a_withdrawn_key_is_noticed_within_a_minute() -> None:
    clock, keys = HandClock(), CountingKeys(options_for("RS256"))
    authenticator = JwtAuthenticator(keys, clock=clock)  # type: ignore[arg-type]
    text = token("RS256", claims(exp=NOW + 3600))
    await authenticator.authenticate(bearer(text))
    keys.inner = OneKey(read_key(options_for("ES256")))
    clock.ms += 60_001
    with pytest.raises(Unauthorized):
        await authenticator.authenticate(bearer(text))


async def test_memory_of_tokens_is_bounded() -> None:
    authenticator = JwtAuthenticator(OneKey(read_key(options_for("HS256"))))
    for number in range(5000):
        await authenticator.verify(token("HS256", claims(n=number)))
    assert len(authenticator._verified) <= 4096


async def test_leeway_is_for_both_ends() -> None:
    clock = HandClock()
    authenticator = JwtAuthenticator(OneKey(read_key(options_for("HS256"))), leeway_s=30, clock=clock)
    late, early = token("HS256", claims(exp=NOW - 29)), token("HS256", claims(nbf=NOW + 29))
    for text in (late, early):
        await authenticator.authenticate(bearer(text))
    clock.ms += 1000
    with pytest.raises(Unauthorized):
        await authenticator.authenticate(bearer(late))


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (JwtOptions(public_key=public_pem("RS256")), "HS256, which needs auth.jwt.secret"),
        (JwtOptions(algorithm="RS256", secret=SECRET), "needs auth.jwt.publicKey"),
        (JwtOptions(algorithm="RS256", public_key=public_pem("ES256")), "not a key for RS256"),
        (JwtOptions(algorithm="ES256", public_key=public_pem("ES384")), "not a key for ES256"),
        (JwtOptions(algorithm="EdDSA", public_key=public_pem("RS256")), "not a key for EdDSA"),
        (JwtOptions(algorithm="RS256", public_key="rubbish"), "auth.jwt.publicKey is no public key"),
        (JwtOptions(secret=public_pem("RS256")), "auth.jwt.secret looks like a public key"),
        (JwtOptions(algorithm="HS256", jwks_url="https://example.com/keys"), "never shared secrets"),
        (JwtOptions(jwks_url="ftp://example.com/keys"), "http or https"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_keys_that_do_not_fit_stop_the_start(options: JwtOptions, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        async with open_jwt(options):
            pass


async def test_key_files_are_read_once_at_the_start(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "key.pem"
    with pytest.raises(ConfigError, match="No such file"):
        async with open_jwt(JwtOptions(algorithm="RS256", public_key_file=path)):
            pass
    path.write_text(public_pem("RS256"))
    async with open_jwt(JwtOptions(algorithm="RS256", public_key_file=path)) as authenticator:
        path.unlink()
        assert await authenticator.authenticate(bearer(token("RS256")))


async def test_a_key_from_a_variable_may_have_its_line_ends_escaped() -> None:
    pem = public_pem("ES256").replace("\n", "\\n")
    async with open_jwt(JwtOptions(algorithm="ES256", public_key=pem)) as authenticator:
        assert await authenticator.authenticate(bearer(token("ES256")))


def test_secrets_do_not_show() -> None:
    assert SECRET not in repr(options_for("HS256")) + repr(read_key(options_for("HS256")))

"""Key sets, fetched from a real HTTP server."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from taskcast_core.errors import StoreUnavailable, Unauthorized
from taskcast_server.auth.jwks import MAX_BYTES, MAX_KEYS, Jwks, usable_keys
from taskcast_server.auth.jwt import JwtAuthenticator, open_jwt
from taskcast_server.auth.options import JwtOptions
from tests.fixtures.eventually import eventually
from tests.server.auth_material import PUBLIC, SECRET, bearer, public_jwk, public_pem, raw_token, token
from tests.server.http_receiver import Got, Receiver, Reply

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]


class Issuer(Receiver):
    """Publishes `keys`."""

    def __init__(self) -> None:
        super().__init__(self.publish)
        self.keys: list[Any] = []
        self.reply: Reply | None = None

    def publish(self, _: Got) -> Reply:
        return self.reply or Reply(body_parts=(json.dumps({"keys": self.keys}).encode(),))


class Watch:
    """A monotonic clock in the test's hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer() as running:
        yield running


async def refused(authenticator: JwtAuthenticator, text: str) -> bool:
    with pytest.raises(Unauthorized, match="Invalid or expired token"):
        await authenticator.authenticate(bearer(text))
    return True


@pytest.mark.parametrize("algorithm", PUBLIC)
@pytest.mark.parametrize("declared", [True, False])
async def test_a_published_key_verifies(issuer: Issuer, algorithm: str, declared: bool) -> None:
    extra = {"alg": algorithm} if declared else {}
    issuer.keys = [public_jwk(algorithm, "k1", **extra), public_jwk("RS256", "other", 1, alg="RS256")]
    pinned = None if declared else algorithm
    async with open_jwt(JwtOptions(algorithm=pinned, jwks_url=issuer.url())) as authenticator:
        principal = await authenticator.authenticate(bearer(token(algorithm, kid="k1")))
    assert principal.subject == "user" and len(issuer.got) == 1


async def test_no_confusion_of_algorithms(issuer: Issuer) -> None:
    issuer.keys = [
        public_jwk("RS256", "rsa"),
        {"kty": "oct", "kid": "shared", "alg": "HS256", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"},
    ]
    async with open_jwt(JwtOptions(jwks_url=issuer.url())) as authenticator:
        assert await authenticator.authenticate(bearer(token("RS256", kid="rsa")))
        pem = public_pem("RS256").encode()
        for text in (
            raw_token({"alg": "HS256", "kid": "rsa"}, {"scope": ["*"]}, pem),
            raw_token({"alg": "HS256", "kid": "shared"}, {"scope": ["*"]}, b"secret-secret-secret-secret-secret"),
            raw_token({"alg": "none", "kid": "rsa"}, {"scope": ["*"]}, None),
            token("PS256", kid="rsa"),  # the key says nothing, and then it is for RS256
            token("RS256", number=1, kid="rsa"),
            token("HS256", kid="rsa"),
        ):
            await refused(authenticator, text)


async def test_a_configured_algorithm_is_the_only_one(issuer: Issuer) -> None:
    issuer.keys = [public_jwk("RS256", "r", alg="RS256"), public_jwk("ES256", "e", alg="ES256")]
    async with open_jwt(JwtOptions(algorithm="ES256", jwks_url=issuer.url())) as authenticator:
        assert await authenticator.authenticate(bearer(token("ES256", kid="e")))
        await refused(authenticator, token("RS256", kid="r"))


async def test_rotation_is_noticed_and_cannot_be_provoked(issuer: Issuer) -> None:
    watch = Watch()
    issuer.keys = [public_jwk("ES256", "old")]
    async with Jwks(issuer.url(), monotonic=watch) as keys:
        authenticator = JwtAuthenticator(keys)
        await authenticator.authenticate(bearer(token("ES256", kid="old")))
        issuer.keys = [public_jwk("ES384", "new")]
        watch.now += 11
        await authenticator.authenticate(bearer(token("ES384", kid="new")))
        assert len(issuer.got) == 2
        for number in range(50):
            await refused(authenticator, token("ES384", kid=f"invented-{number}"))
        assert len(issuer.got) == 2, "an unknown kid asks again only after ten seconds"
        await refused(authenticator, token("ES256", {"n": 1}, kid="old"))


async def test_a_set_is_fetched_again_when_it_is_no_longer_fresh(issuer: Issuer) -> None:
    watch = Watch()
    issuer.keys = [public_jwk("ES256", "k")]
    async with Jwks(issuer.url(), fresh_for_s=300, monotonic=watch) as keys:
        assert await keys.find("ES256", "k")
        watch.now += 299
        assert await keys.find("ES256", "k") and len(issuer.got) == 1
        watch.now += 2
        issuer.keys = []
        assert await keys.find("ES256", "k") is None and len(issuer.got) == 2


@pytest.mark.parametrize(
    "failure",
    [
        Reply(500),
        Reply(302, {"Location": "/elsewhere"}),
        Reply(hang_up=True),
        Reply(body_parts=(b"<html>",)),
        Reply(body_parts=(b'{"keys": 5}',)),
        Reply(body_parts=(b"[]",)),
        Reply(body_parts=(b" " * (MAX_BYTES // 4),) * 5),
    ],
    ids=["500", "redirect", "hang up", "no JSON", "no list", "no object", "too long"],
)
async def test_old_keys_serve_while_the_issuer_fails(issuer: Issuer, failure: Reply) -> None:
    watch = Watch()
    issuer.keys = [public_jwk("ES256", "k")]
    async with Jwks(issuer.url(), monotonic=watch) as keys:
        assert await keys.find("ES256", "k")
        issuer.reply = failure
        watch.now += 3600
        for _ in range(20):
            assert await keys.find("ES256", "k")
        assert len(issuer.got) == 2, "a failure is not repeated at every request"
        watch.now += 86_400
        with pytest.raises(StoreUnavailable):
            await keys.find("ES256", "k")
        issuer.reply = None
        watch.now += 11
        assert await keys.find("ES256", "k")


async def test_without_any_set_the_answer_is_not_401(issuer: Issuer) -> None:
    issuer.reply = Reply(503)
    async with open_jwt(JwtOptions(jwks_url=issuer.url())) as authenticator:
        with pytest.raises(StoreUnavailable) as caught:
            await authenticator.authenticate(bearer(token("RS256", kid="k")))
    assert caught.value.retryable


async def test_a_silent_issuer_costs_a_bounded_wait() -> None:
    async def never(_: Got) -> Reply:
        await asyncio.sleep(3600)
        raise AssertionError

    async with Receiver(never) as silent, Jwks(silent.url(), timeout_s=0.2) as keys, asyncio.timeout(5):
        waiting = [asyncio.create_task(keys.find("ES256", "k")) for _ in range(50)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(each, StoreUnavailable) for each in outcomes)
        assert len(silent.got) == 1, "everybody waits for the same fetch"


async def test_closing_ends_a_fetch_under_way() -> None:
    async def never(_: Got) -> Reply:
        await asyncio.sleep(3600)
        raise AssertionError

    async with Receiver(never) as silent, asyncio.timeout(5), Jwks(silent.url(), timeout_s=60):
        await eventually(lambda: len(silent.got) == 1)


async def test_a_caller_that_gives_up_does_not_end_the_fetch_for_others() -> None:
    gate = asyncio.Event()

    async def late(_: Got) -> Reply:
        await gate.wait()
        return Reply(body_parts=(json.dumps({"keys": [public_jwk("ES256", "k")]}).encode(),))

    async with Receiver(late) as issuer, Jwks(issuer.url()) as keys, asyncio.timeout(5):
        impatient = asyncio.create_task(keys.find("ES256", "k"))
        patient = asyncio.create_task(keys.find("ES256", "k"))
        await eventually(lambda: len(issuer.got) == 1)
        impatient.cancel()
        gate.set()
        assert await patient and len(issuer.got) == 1


@pytest.mark.parametrize(
    ("keys", "kid", "is_found"),
    [
        ([("ES256", "a")], None, True),
        ([("ES256", None)], None, True),
        ([("ES256", "a"), ("RS256", "b")], None, True),
        ([("ES256", "a"), ("ES256", "b")], None, False),
        ([("ES256", "a"), ("ES256", "b")], "b", True),
        ([("ES256", None)], "a", False),
    ],
)
async def test_a_token_without_kid_needs_a_single_candidate(
    issuer: Issuer, keys: Sequence[tuple[str, str | None]], kid: str | None, is_found: bool
) -> None:
    issuer.keys = [public_jwk(algorithm, its_kid) for algorithm, its_kid in keys]
    async with Jwks(issuer.url()) as source:
        assert bool(await source.find("ES256", kid)) is is_found


def test_what_is_no_key_for_verifying_is_left_out() -> None:
    good = public_jwk("RS256", "good")
    from jwt.algorithms import RSAAlgorithm

    from tests.server.auth_material import private_key

    private = RSAAlgorithm.to_jwk(private_key("RS256"), as_dict=True)
    entries: list[Any] = [
        5, None, {}, {"kty": "RSA"}, {"kty": "odd"}, {"kty": "oct", "k": SECRET},
        good | {"use": "enc"}, good | {"key_ops": ["encrypt"]}, good | {"alg": "RSA-OAEP"}, good | {"alg": "none"},
        good | {"alg": ["RS256"][0] + "x"}, good | {"kid": 5}, good | {"n": "!"},
        public_jwk("ES384", "x", alg="ES256"), private | {"kid": "private"}, good,
    ]  # fmt: skip
    found = usable_keys(json.dumps({"keys": entries}).encode(), None)
    assert [(kid, key.algorithm) for kid, key in found] == [("good", "RS256")]


def test_a_huge_set_is_cut() -> None:
    entries = [public_jwk("EdDSA", f"k{number}") for number in range(MAX_KEYS + 50)]
    assert len(usable_keys(json.dumps({"keys": entries}).encode(), None)) == MAX_KEYS

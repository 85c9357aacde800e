"""JSON Web Tokens as proof of who is calling (wire spec, auth section 2.1)."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import jwt

from taskcast_core.clock import Clock
from taskcast_core.contracts.auth import Authenticator, Connection, Principal
from taskcast_core.errors import Unauthorized
from taskcast_server.auth.bearer import bearer_token
from taskcast_server.auth.claims import principal_of, seconds
from taskcast_server.auth.jwks import Jwks
from taskcast_server.auth.keys import KeySource, OneKey, read_key
from taskcast_server.auth.none import NobodyAuthenticator
from taskcast_server.auth.options import SYMMETRIC, JwtOptions
from taskcast_server.auth.verified import VerifiedTokens

if TYPE_CHECKING:
    from jwt.types import Options as DecodeOptions

_log = logging.getLogger(__name__)

MAX_TOKEN_LENGTH = 16_384
_REMEMBERED_S = 60.0
"""How long a verified token is believed without another look at the keys: a withdrawn key is out after that."""


class JwtAuthenticator:
    """Accepts bearer tokens that a key of ours has signed with the algorithm that this key is for.

    ``exp``, ``nbf``, ``iss`` and ``aud`` are verified when present or asked for; a token without ``exp`` is accepted.
    """

    def __init__(
        self,
        keys: KeySource,
        *,
        issuer: str | None = None,
        audience: str | None = None,
        leeway_s: float = 0,
        clock: Clock | None = None,
    ) -> None:
        self._keys = keys
        self._issuer, self._audience, self._leeway_s = issuer, audience, leeway_s
        self._clock = clock or Clock()
        self._verified = VerifiedTokens()
        # The times are compared here, with the clock and the leeway of this authenticator.
        self._decode_options: DecodeOptions = {
            "verify_aud": audience is not None, "verify_iss": issuer is not None,
            "verify_exp": False, "verify_nbf": False, "verify_iat": False,
        }  # fmt: skip

    async def authenticate(self, connection: Connection) -> Principal:
        """The principal of the bearer token.

        Raises:
            Unauthorized: there is none, or it is not valid (any more, or yet).
            StoreUnavailable: the issuer's keys cannot be had.
        """
        token = bearer_token(connection)
        if token is None:
            raise Unauthorized("Missing Bearer token")
        return await self.verify(token)

    async def verify(self, token: str) -> Principal:
        """The principal of a token; raises as `authenticate` does."""
        now = self._clock.now_ms() / 1000
        if len(token) > MAX_TOKEN_LENGTH:
            raise _invalid()
        if (known := self._verified.get(token, now)) is not None:
            return known
        try:
            principal = await self._verify(token, now)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            # TypeError and RecursionError come from hostile headers; none of these says more than "not a good token".
            _log.debug("token refused: %s", type(error).__name__)
            raise _invalid() from None
        expiry = math.inf if principal.expires_at is None else principal.expires_at + self._leeway_s
        self._verified.put(token, principal, min(expiry, now + _REMEMBERED_S))
        return principal

    async def _verify(self, token: str, now: float) -> Principal:
        header = jwt.get_unverified_header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or not (kid is None or isinstance(kid, str)):
            raise jwt.InvalidTokenError("header")
        key = await self._keys.find(algorithm, kid)
        if key is None:
            raise jwt.InvalidKeyError("no such key")
        claims: dict[str, Any] = jwt.decode(
            token, key.material, algorithms=[key.algorithm], options=self._decode_options,
            issuer=self._issuer, audience=self._audience,
        )  # fmt: skip
        self._check_times(claims, now)
        return principal_of(claims, "jwt")

    def _check_times(self, claims: dict[str, Any], now: float) -> None:
        expires, begins = seconds(claims, "exp"), seconds(claims, "nbf")
        if expires is not None and now >= expires + self._leeway_s:
            raise jwt.ExpiredSignatureError
        if begins is not None and now < begins - self._leeway_s:
            raise jwt.ImmatureSignatureError


@asynccontextmanager
async def open_jwt(options: JwtOptions) -> AsyncIterator[Authenticator]:
    """The authenticator of mode ``jwt``. Keys and key files are read here, once.

    Without any key, every request is refused: a server that was told to check tokens must not let anybody in because
    a setting is missing.

    Raises:
        ConfigError: key and algorithm do not fit together, or the key cannot be read.
    """
    if options.is_empty:
        _log.warning(
            "auth.mode is jwt, but auth.jwt has no secret, publicKey, publicKeyFile or jwksUrl: every request gets 401"
        )
        yield NobodyAuthenticator()
        return
    if _uses_key_set(options):
        assert options.jwks_url is not None
        async with Jwks(
            options.jwks_url, algorithm=options.algorithm,
            fresh_for_s=options.jwks_cache_seconds, timeout_s=options.jwks_timeout_seconds,
        ) as keys:  # fmt: skip
            yield _authenticator(keys, options)
    else:
        yield _authenticator(OneKey(read_key(options)), options)


def _uses_key_set(options: JwtOptions) -> bool:
    """A named key comes before a published one, if it is of the algorithm's kind."""
    if options.jwks_url is None or options.public_key or options.public_key_file:
        return False
    return not options.secret or (options.algorithm is not None and options.algorithm not in SYMMETRIC)


def _authenticator(keys: KeySource, options: JwtOptions) -> JwtAuthenticator:
    return JwtAuthenticator(keys, issuer=options.issuer, audience=options.audience, leeway_s=options.leeway_seconds)


def _invalid() -> Unauthorized:
    return Unauthorized("Invalid or expired token")

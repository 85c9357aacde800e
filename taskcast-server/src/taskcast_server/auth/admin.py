"""The admin token, and the tokens that this server signs itself (wire spec, rest section 6)."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from typing import Any

from attrs import field

from taskcast_core.contracts.auth import Principal
from taskcast_core.errors import ConfigError, Unauthorized
from taskcast_core.ids import new_ulid
from taskcast_core.values import frozen
from taskcast_server.auth.options import DEFAULT_ALGORITHM, SYMMETRIC, AccessOptions, JwtOptions

DEFAULT_TTL_S = 86_400
MAX_TTL_S = 10 * 365 * 86_400
ADMIN_SUBJECT = "admin"


@frozen
class MintedToken:
    """A signed token; empty where this server cannot sign any. ``expires_at``: Unix seconds."""

    token: str = field(repr=False)
    expires_at: int


def mint_token(
    options: JwtOptions,
    scopes: Sequence[str] = ("*",),
    task_ids: Sequence[str] | None = None,
    ttl_s: float = DEFAULT_TTL_S,
    subject: str | None = None,
    *,
    now_s: float | None = None,
) -> MintedToken:
    """Sign a token that a server with these options accepts: issuer and audience are put in where it asks for them.

    ``task_ids``: None is all tasks. ``ttl_s`` is cut to ten years.

    Raises:
        ConfigError: there is no shared secret to sign with.
    """
    import jwt

    from taskcast_server.auth.keys import read_key

    if not can_sign(options):
        raise ConfigError("tokens can be signed with a shared secret only: set auth.jwt.secret and an HS algorithm")
    issued_at = int(time.time() if now_s is None else now_s)
    expires_at = issued_at + max(1, int(min(ttl_s, MAX_TTL_S)))
    claims: dict[str, Any] = {
        "scope": list(scopes), "taskIds": "*" if task_ids is None else list(task_ids),
        "iat": issued_at, "exp": expires_at,
    }  # fmt: skip
    names = {"sub": subject, "iss": options.issuer, "aud": options.audience}
    claims |= {name: value for name, value in names.items() if value is not None}
    key = read_key(options)
    return MintedToken(jwt.encode(claims, key.material, algorithm=key.algorithm), expires_at)


def can_sign(options: JwtOptions) -> bool:
    """Whether there is a shared secret that tokens are verified with."""
    return bool(options.secret) and (options.algorithm or DEFAULT_ALGORITHM) in SYMMETRIC


class AdminDesk:
    """Exchanges the admin token for a JWT.

    Attributes:
        token: what it asks for. was_generated: whether it was made now, so that somebody has to print it.
    """

    def __init__(self, token: str | None = None, signing: JwtOptions | None = None) -> None:
        """Without a token, one is made. ``signing``: None where the server does not verify JWTs."""
        self.was_generated = not token
        self.token = token or new_ulid(time.time_ns() // 1_000_000)
        self._signing = signing if signing is not None and can_sign(signing) else None

    def __repr__(self) -> str:
        return f"AdminDesk(was_generated={self.was_generated})"

    def admits(self, candidate: object) -> bool:
        """Whether this is the admin token, in the same time for every candidate."""
        if not isinstance(candidate, str) or not candidate:
            return False
        return hmac.compare_digest(_digest(candidate), _digest(self.token))

    def exchange(self, candidate: object, scopes: object = None, expires_in: object = None) -> MintedToken:
        """The reply to ``POST /admin/token``, from the fields of its body as they are.

        ``scopes`` that are no list become ``["*"]``, an ``expires_in`` that is no positive number a day. The token is
        empty where the server cannot sign one.

        Raises:
            Unauthorized: it is not the admin token.
        """
        if not self.admits(candidate):
            raise Unauthorized("Invalid admin token")
        granted = [each for each in scopes if isinstance(each, str)] if isinstance(scopes, list) else ["*"]
        ttl_s = _positive(expires_in)
        if self._signing is None:
            return MintedToken("", int(time.time()) + int(ttl_s))
        return mint_token(self._signing, granted, None, ttl_s, ADMIN_SUBJECT)


def open_admin_desk(access: AccessOptions, signing: JwtOptions | None) -> AdminDesk | None:
    """The desk that the configuration asks for; None where ``adminApi`` is off."""
    return AdminDesk(access.admin_token, signing) if access.admin_api else None


def may_administer(principal: Principal) -> bool:
    """Whether the caller may see and change the server itself; a caller confined to some tasks may not."""
    return principal.task_ids is None and principal.allows("admin")


def _positive(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return DEFAULT_TTL_S
    bounded = min(value, MAX_TTL_S)
    return bounded if bounded > 0 else DEFAULT_TTL_S  # a NaN is not above 0


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

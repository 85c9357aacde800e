"""What the configuration says about callers: ``auth``, ``trustedServices``, ``adminApi`` and ``adminToken``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from taskcast_core.config import Options, Surroundings, option
from taskcast_core.config.reading import Scene
from taskcast_core.values import frozen

DEFAULT_ALGORITHM = "HS256"
SYMMETRIC = frozenset({"HS256", "HS384", "HS512"})

Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512",
    "PS256", "PS384", "PS512", "EdDSA",
]  # fmt: skip


@frozen
class JwtOptions:
    """How tokens are verified (``auth.jwt``). One kind of key is used: the secret for HS*, a public key for all others.

    Attributes:
        algorithm: the only one that is accepted. Unset means HS256; with a key set, whatever each key is for.
        public_key: SPKI PEM. public_key_file: a file with one, read once, at start.
        jwks_url: where a JSON Web Key Set is published. jwks_cache_seconds: how long it is taken for fresh.
        leeway_seconds: how far the issuer's clock may be off when a request is let in; streams end at ``exp`` sharp.
    """

    algorithm: Algorithm | None = option(
        None, env="TASKCAST_JWT_ALGORITHM", help="the only algorithm accepted; HS256 unless a key set is used"
    )
    secret: str | None = option(None, env="TASKCAST_JWT_SECRET", secret=True, help="shared secret of the HS algorithms")
    public_key: str | None = option(None, env="TASKCAST_JWT_PUBLIC_KEY", help="public key, SPKI PEM")
    public_key_file: Path | None = option(
        None, env="TASKCAST_JWT_PUBLIC_KEY_FILE", help="file with a public key, SPKI PEM"
    )
    jwks_url: str | None = option(None, env="TASKCAST_JWT_JWKS_URL", help="where the issuer publishes its key set")
    jwks_cache_seconds: int = option(300, minimum=1, maximum=86_400, help="how long a fetched key set is fresh")
    jwks_timeout_seconds: float = option(5.0, minimum=0.1, maximum=60, help="how long a request waits for the key set")
    issuer: str | None = option(None, env="TASKCAST_JWT_ISSUER", help="what `iss` has to be")
    audience: str | None = option(None, env="TASKCAST_JWT_AUDIENCE", help="what `aud` has to contain")
    leeway_seconds: float = option(0, minimum=0, maximum=300, help="tolerated clock difference")

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to verify a token with."""
        return not (self.secret or self.public_key or self.public_key_file or self.jwks_url)


@frozen
class CustomOptions:
    """An embedder's own authenticator (``auth.custom``).

    Attributes:
        authenticate: the callable itself (Python configuration), or ``module:attribute``.
    """

    authenticate: object | None = option(
        None, shorthand=True, help="callable, or module:attribute, from connection to principal"
    )


@frozen
class AuthOptions:
    """The section ``auth``; what it holds beside these keys belongs to the mode of that name.

    Attributes:
        max_stream_seconds: the longest life of a stream whose token has no ``exp``.
        ticket_secret: what stream tickets are sealed with; the same on all nodes. Without it, the JWT secret serves;
            without that, a random key of this process, whose tickets no other node accepts.
    """

    mode: str = option("none", env="TASKCAST_AUTH_MODE", help="none, jwt, custom or an installed authenticator")
    max_stream_seconds: int = option(
        86_400, minimum=1, maximum=31_536_000, help="longest stream of a caller whose token never expires"
    )
    ticket_secret: str | None = option(
        None, env="TASKCAST_TICKET_SECRET", secret=True, help="secret of stream tickets, shared by all nodes"
    )
    modes: Options = option(
        extras=True, factory=lambda: Options(None, "auth", Scene(Surroundings())), help="options of each mode"
    )


@frozen
class TrustedService:
    """A program that proves itself by a key.

    Attributes:
        task_ids: the only tasks it may see; ``*`` among them is all.
    """

    name: str = option(help="appears as the subject svc:<name>")
    key: str = option(secret=True, help="what it sends")
    scope: tuple[str, ...] = option((), help="what it may do")
    task_ids: tuple[str, ...] = option(("*",), help="the tasks it may see, or *")

    def __attrs_post_init__(self) -> None:
        if not self.name or not self.key:
            raise ValueError("a trusted service needs a name and a key")


@frozen
class AccessOptions:
    """The top-level keys about access."""

    trusted_services: tuple[TrustedService, ...] = option((), help="programs that prove themselves by a key")
    admin_api: bool = option(default=False, help="whether POST /admin/token exists")
    admin_token: str | None = option(
        None, secret=True, help="what POST /admin/token asks for; made at start when it is not given"
    )

"""Keys that tokens are verified with, each bound to the one algorithm it is for."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from attrs import field
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError

from taskcast_core.errors import ConfigError
from taskcast_core.values import frozen
from taskcast_server.auth.options import DEFAULT_ALGORITHM, SYMMETRIC, JwtOptions

_log = logging.getLogger(__name__)

_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
ASYMMETRIC = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA", *_CURVES})
_LEAST_RSA_BITS = 2048


@frozen
class VerificationKey:
    """A key and its algorithm; a token that names another algorithm is not for this key."""

    algorithm: str
    material: Any = field(repr=False)


class KeySource(Protocol):
    """Finds the key of a token."""

    async def find(self, algorithm: str, kid: str | None) -> VerificationKey | None:
        """The key for a token with this header; None when no key of ours is meant.

        Raises:
            StoreUnavailable: keys are published elsewhere, and could not be had.
        """


@frozen
class OneKey:
    """The key source of a configuration that names its key."""

    key: VerificationKey

    async def find(self, algorithm: str, kid: str | None) -> VerificationKey | None:
        """The key, if the token is signed with its algorithm; ``kid`` has no meaning here."""
        return self.key if algorithm == self.key.algorithm else None


def fits(key: object, algorithm: str) -> bool:
    """Whether a public key is of the kind, curve and size that the algorithm asks for."""
    if algorithm in _CURVES:
        return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == _CURVES[algorithm]
    if algorithm == "EdDSA":
        return isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)
    return algorithm in ASYMMETRIC and isinstance(key, rsa.RSAPublicKey)


def read_key(options: JwtOptions) -> VerificationKey:
    """The configured secret or public key.

    Raises:
        ConfigError: the key is missing, unreadable, or not one for the algorithm.
    """
    algorithm = options.algorithm or DEFAULT_ALGORITHM
    if algorithm in SYMMETRIC:
        return VerificationKey(algorithm, _secret(options, algorithm))
    path, pem = _pem(options, algorithm)
    try:
        key = load_pem_public_key(pem.replace("\\n", "\n").encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path} is no public key in SPKI PEM form (BEGIN PUBLIC KEY)") from error
    if not fits(key, algorithm):
        raise ConfigError(f"{path} is not a key for {algorithm}, which auth.jwt.algorithm asks for")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        _log.warning("%s has only %d bits; use at least %d", path, key.key_size, _LEAST_RSA_BITS)
    return VerificationKey(algorithm, key)


def _secret(options: JwtOptions, algorithm: str) -> bytes:
    if not options.secret:
        raise ConfigError(
            f"auth.jwt.algorithm is {algorithm}, which needs auth.jwt.secret; with a public key, name its algorithm"
        )
    secret = options.secret.encode()
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except InvalidKeyError as error:
        raise ConfigError("auth.jwt.secret looks like a public key; put it into auth.jwt.publicKey") from error
    if len(secret) * 8 < int(algorithm[2:]):
        _log.warning(
            "auth.jwt.secret has only %d bytes; %s asks for %d", len(secret), algorithm, int(algorithm[2:]) // 8
        )
    return secret


def _pem(options: JwtOptions, algorithm: str) -> tuple[str, str]:
    """The configured public key, with the path of the option that holds it."""
    if options.public_key:
        return "auth.jwt.publicKey", options.public_key
    if options.public_key_file:
        try:
            return f"auth.jwt.publicKeyFile ({options.public_key_file})", options.public_key_file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise ConfigError(f"auth.jwt.publicKeyFile {options.public_key_file}: {reason}") from error
    raise ConfigError(f"auth.jwt.algorithm is {algorithm}, which needs auth.jwt.publicKey, publicKeyFile or jwksUrl")

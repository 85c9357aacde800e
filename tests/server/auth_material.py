"""Keys, tokens and connections for the tests of authentication."""

import base64
import hashlib
import hmac
import json
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms
from starlette.requests import HTTPConnection

from taskcast_server.auth.options import JwtOptions

SECRET = "a-shared-secret-that-is-long-enough-for-every-hmac-of-the-family-0123456789"
OTHER_SECRET = SECRET[::-1]
HMAC = ("HS256", "HS384", "HS512")
PUBLIC = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA")
_CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


@cache
def private_key(algorithm: str, number: int = 0) -> Any:
    """The private key number so-and-so for an algorithm; made once."""
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm]())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return private_key("RSA", number) if algorithm != "RSA" else rsa.generate_private_key(65537, 2048)


def public_pem(algorithm: str, number: int = 0) -> str:
    public = private_key(algorithm, number).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def public_jwk(algorithm: str, kid: str | None, number: int = 0, **extra: Any) -> dict[str, Any]:
    """The public key as an entry of a key set, without ``alg`` unless given."""
    entry = get_default_algorithms()[algorithm].to_jwk(private_key(algorithm, number).public_key(), as_dict=True)
    return entry | ({"kid": kid} if kid is not None else {}) | extra


def signing_key(algorithm: str, number: int = 0) -> Any:
    if algorithm in HMAC:
        return OTHER_SECRET if number else SECRET
    return private_key(algorithm, number)


def options_for(algorithm: str, **more: Any) -> JwtOptions:
    key = {"secret": SECRET} if algorithm in HMAC else {"public_key": public_pem(algorithm)}
    return JwtOptions(algorithm=algorithm, **key, **more)


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims for `options_for(…, issuer="issuer", audience="audience")`; None leaves one out."""
    base = {"sub": "user", "scope": ["event:subscribe"], "exp": int(time.time()) + 86_400, "iss": "issuer",
            "aud": "audience"}  # fmt: skip
    return {name: value for name, value in (base | changes).items() if value is not None}


def token(algorithm: str, payload: dict[str, Any] | None = None, *, number: int = 0, **header: Any) -> str:
    return jwt.encode(
        claims() if payload is None else payload, signing_key(algorithm, number), algorithm=algorithm,
        headers=header or None,
    )  # fmt: skip


def raw_token(header: object, payload: object, secret: bytes | None) -> str:
    """A token put together by hand, for what the library refuses to sign."""
    signed = ".".join(segment(json.dumps(part).encode()) for part in (header, payload))
    mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest() if secret is not None else b""
    return f"{signed}.{segment(mac)}"


def segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def connection(query: str = "", **headers: str) -> HTTPConnection:
    """A connection with these headers (``x_api_key="…"``) and this query string."""
    raw = [(name.replace("_", "-").lower().encode(), value.encode("utf-8")) for name, value in headers.items()]
    return HTTPConnection({"type": "http", "headers": raw, "query_string": query.encode()})


def bearer(text: str) -> HTTPConnection:
    return connection(authorization=f"Bearer {text}")

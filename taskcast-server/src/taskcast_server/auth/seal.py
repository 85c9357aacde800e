"""What stream tickets are closed with: AES-256-GCM under a key derived from the server's secret."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES = 12


class Seal:
    """Nobody without the secret can read or change what it has closed."""

    def __init__(self, secret: bytes) -> None:
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"taskcast stream ticket v1").derive(secret)
        self._cipher = AESGCM(key)

    def close(self, content: bytes, purpose: bytes) -> bytes:
        """The content, sealed; the purpose is not in it, but has to be the same when it is opened."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, purpose)

    def open(self, sealed: bytes, purpose: bytes) -> bytes:
        """What was closed.

        Raises:
            ValueError: not with this secret and purpose.
        """
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose)
        except InvalidTag:
            raise ValueError("the seal is broken") from None

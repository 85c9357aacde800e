"""Programs that prove themselves by a key (wire spec, auth section 2.3)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from taskcast_core.contracts.auth import Connection, Principal
from taskcast_core.errors import ConfigError, Unauthorized
from taskcast_server.auth.bearer import bearer_token
from taskcast_server.auth.options import TrustedService

HEADER = "x-taskcast-service-key"
API_KEY_HEADER = "x-api-key"


class ServiceKeys:
    """The trusted services of one server."""

    def __init__(self, services: Iterable[TrustedService]) -> None:
        """Raises ConfigError where two services have one key, so that a caller has one identity."""
        self._services: list[tuple[bytes, Principal]] = []
        for service in services:
            digest = hashlib.sha256(service.key.encode()).digest()
            if any(digest == other for other, _ in self._services):
                raise ConfigError(f"trustedServices: {service.name} has the key of another service")
            self._services.append((digest, _principal(service)))

    def __bool__(self) -> bool:
        return bool(self._services)

    def find(self, key: str) -> Principal | None:
        """Whose key it is. Takes the same time for every key: digests are compared, and all of them."""
        digest = hashlib.sha256(_bytes(key)).digest()
        found = None
        for known, principal in self._services:
            if hmac.compare_digest(digest, known):
                found = principal
        return found

    def authenticate(self, connection: Connection, *, api_key_decides: bool) -> Principal | None:
        """The service that is calling; None leaves the request to the mode.

        A ``X-Taskcast-Service-Key`` is meant for us, so a wrong one is refused. A bearer token that is no key may
        be a JWT. A wrong ``X-API-Key`` without bearer token is refused if ``api_key_decides``: where the mode looks
        at bearer tokens only.

        Raises:
            Unauthorized: see above.
        """
        if not self._services:
            return None
        key = connection.headers.get(HEADER)
        if key is not None:
            return self.find(key) or _refuse()
        bearer = bearer_token(connection)
        if bearer is not None and (found := self.find(bearer)) is not None:
            return found
        api_key = connection.headers.get(API_KEY_HEADER)
        if api_key is None:
            return None
        found = self.find(api_key)
        if found is None and bearer is None and api_key_decides:
            _refuse()
        return found


def _bytes(header: str) -> bytes:
    """A header as it was sent: servers decode headers as Latin-1, while a key from a file is UTF-8."""
    try:
        return header.encode("latin-1")
    except UnicodeEncodeError:
        return header.encode("utf-8", "surrogatepass")


def _principal(service: TrustedService) -> Principal:
    subject = f"svc:{service.name}"
    task_ids = None if "*" in service.task_ids else frozenset(service.task_ids)
    return Principal(
        scopes=frozenset(service.scope),
        task_ids=task_ids,
        subject=subject,
        name=subject,
        claims={"sub": subject},
    )


def _refuse() -> Principal:
    raise Unauthorized("Invalid service key")

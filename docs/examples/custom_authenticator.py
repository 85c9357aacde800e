"""An authenticator of your own for a server that is started by `taskcast`: a function, named in the configuration.

    auth:
      mode: custom
      custom: { authenticate: "custom_authenticator:authenticate" }

It is given the headers and the query of each request, and says what the caller may do. Here: API keys, of which only
hashes are kept. To make it installable, with options of its own, see the plugin `proxy_authenticator.py`.
"""

from hashlib import sha256

from taskcast_core.contracts import Connection, Principal
from taskcast_core.errors import Unauthorized

KEYS = {
    # sha256 of the key → whose it is, and what it allows; these keys are "writer-key" and "reader-key".
    sha256(b"writer-key").hexdigest(): ("ingest", frozenset({"task:create", "task:manage", "event:publish"})),
    sha256(b"reader-key").hexdigest(): ("dashboard", frozenset({"event:subscribe", "event:history"})),
}


async def authenticate(connection: Connection) -> Principal:
    given = connection.headers.get("x-api-key", "")
    found = KEYS.get(sha256(given.encode()).hexdigest())
    if found is None:
        raise Unauthorized("This key is not known")
    name, scopes = found
    return Principal(scopes, subject=name, name=f"key:{name}")

"""The cases of Authenticator, on the smallest thing that is one."""

from __future__ import annotations

import pytest

from taskcast_core.contracts import Connection, Principal
from taskcast_core.errors import Unauthorized
from taskcast_core.testing import AuthenticatorContract
from taskcast_core.testing.auth import PlainConnection


class OneToken:
    """Lets in whoever knows the token."""

    async def authenticate(self, connection: Connection) -> Principal:
        if connection.headers.get("authorization") != "Bearer right":
            raise Unauthorized("wrong token")
        return Principal(frozenset({"*"}), name="owner")


class TestOneToken(AuthenticatorContract):
    @pytest.fixture
    def authenticator(self) -> OneToken:
        return OneToken()

    @pytest.fixture
    def good_connection(self) -> PlainConnection:
        return PlainConnection({"Authorization": "Bearer right"})

    @pytest.fixture
    def bad_connection(self) -> PlainConnection:
        return PlainConnection({"Authorization": "Bearer wrong"})

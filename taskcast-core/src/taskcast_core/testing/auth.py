"""The cases of Authenticator."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from taskcast_core.contracts import Authenticator, Connection, Principal
from taskcast_core.errors import Unauthorized
from taskcast_core.testing.contract import Contract


class PlainConnection:
    """A connection that consists of its headers and its query."""

    def __init__(self, headers: dict[str, str] | None = None, query_params: dict[str, str] | None = None) -> None:
        self.headers = {name.lower(): value for name, value in (headers or {}).items()}
        self.query_params = query_params or {}


class AuthenticatorContract(Contract):
    """Everything that ``taskcast_core.contracts.Authenticator`` promises.

    Override the fixtures ``authenticator``, ``good_connection`` and ``bad_connection``.
    """

    capability: ClassVar[str] = "Authenticator"
    promise: ClassVar[str] = "a caller is somebody or is refused"
    subject: ClassVar[str] = "authenticator"

    @pytest.fixture
    def authenticator(self) -> Any:
        """The object under test."""
        raise NotImplementedError("override the fixture `authenticator`")

    @pytest.fixture
    def good_connection(self) -> Connection:
        """A connection of a caller who is known."""
        raise NotImplementedError("override the fixture `good_connection`")

    @pytest.fixture
    def bad_connection(self) -> Connection | None:
        """A connection with credentials that are wrong; None where everybody is welcome."""
        raise NotImplementedError("override the fixture `bad_connection`")

    async def test_a_known_caller(self, authenticator: Authenticator, good_connection: Connection) -> None:
        principal = await authenticator.authenticate(good_connection)
        assert isinstance(principal, Principal)
        assert principal.name
        assert all(isinstance(scope, str) for scope in principal.scopes)

    async def test_the_same_caller_is_the_same_principal(
        self, authenticator: Authenticator, good_connection: Connection
    ) -> None:
        first, second = [await authenticator.authenticate(good_connection) for _ in range(2)]
        assert (first.name, first.scopes, first.task_ids) == (second.name, second.scopes, second.task_ids)

    async def test_wrong_credentials(self, authenticator: Authenticator, bad_connection: Connection | None) -> None:
        if bad_connection is None:
            pytest.skip("everybody is welcome")
        with pytest.raises(Unauthorized) as refused:
            await authenticator.authenticate(bad_connection)
        assert str(refused.value), "the message is what the caller is to see"

    async def test_no_credentials(self, authenticator: Authenticator, bad_connection: Connection | None) -> None:
        if bad_connection is None:
            pytest.skip("everybody is welcome")
        with pytest.raises(Unauthorized):
            await authenticator.authenticate(PlainConnection())

    @pytest.mark.parametrize(
        "value",
        ["", "Bearer", "Bearer ", "Bearer a.b.c", "Basic dTpw", "Bearer \x00", "Bearer " + "x" * 100_000, "ключ"],
    )
    async def test_rubbish(self, authenticator: Authenticator, bad_connection: Connection | None, value: str) -> None:
        if bad_connection is None:
            pytest.skip("everybody is welcome")
        with pytest.raises(Unauthorized):
            await authenticator.authenticate(PlainConnection({"authorization": value}))

    async def test_callers_at_once_are_not_confused(
        self, authenticator: Authenticator, good_connection: Connection, bad_connection: Connection | None
    ) -> None:
        good = (await authenticator.authenticate(good_connection)).name
        connections = [good_connection if n % 2 or bad_connection is None else bad_connection for n in range(40)]
        outcomes = await asyncio.gather(
            *(authenticator.authenticate(connection) for connection in connections), return_exceptions=True
        )
        for connection, outcome in zip(connections, outcomes, strict=True):
            if connection is good_connection:
                assert isinstance(outcome, Principal) and outcome.name == good
            else:
                assert isinstance(outcome, Unauthorized)

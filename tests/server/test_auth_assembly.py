"""From the configuration, through the plugin hooks, to an authenticator."""

import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import frozen

from taskcast_core.config import Config, InvalidConfig, option
from taskcast_core.contracts.auth import Authenticator, Connection, Principal
from taskcast_core.errors import ConfigError, Forbidden, Unauthorized
from taskcast_core.hookspecs import hookimpl
from taskcast_core.plugins import Plugins
from taskcast_core.registry import Registry
from taskcast_server import plugin
from taskcast_server.auth.assembly import as_authenticator, jwt_options, open_authenticator
from taskcast_server.auth.custom import CustomAuthenticator
from taskcast_server.auth.none import OPEN, OpenAuthenticator
from taskcast_server.auth.options import AccessOptions, AuthOptions
from taskcast_server.webhooks.options import WebhookOptions
from tests.server.auth_material import SECRET, bearer, connection, token

pytestmark = pytest.mark.anyio


def configured(data: dict[str, Any], *more: object, **env: str) -> tuple[Config, Plugins]:
    plugins = Plugins([plugin, *more], discover=False)
    return Config.of(data, env=env, plugins=plugins), plugins


async def ask(asked: Connection, data: dict[str, Any], *more: object, **env: str) -> Principal:
    async with open_authenticator(*configured(data, *more, **env)) as authenticator:
        return await authenticator.authenticate(asked)


async def test_without_a_word_everybody_is_welcome() -> None:
    assert await ask(bearer("rubbish"), {}) is OPEN


async def test_mode_jwt_from_file_and_environment() -> None:
    good = bearer(token("HS256"))
    file = {"auth": {"mode": "jwt", "jwt": {"secret": SECRET, "issuer": "issuer", "audience": "audience"}}}
    assert (await ask(good, file)).subject == "user"
    assert (await ask(good, {}, TASKCAST_AUTH_MODE="jwt", TASKCAST_JWT_SECRET=SECRET)).subject == "user"
    assert (
        await ask(good, {"auth": {"mode": "none"}}, TASKCAST_AUTH_MODE="jwt", TASKCAST_JWT_SECRET=SECRET)
    ) is not OPEN
    with pytest.raises(Unauthorized):
        await ask(good, file, TASKCAST_JWT_ISSUER="somebody else")


async def test_mode_jwt_without_settings_refuses_everybody() -> None:
    with pytest.raises(Unauthorized, match=r"^Unauthorized$"):
        await ask(bearer(token("HS256")), {"auth": {"mode": "jwt"}})


async def test_options_of_other_modes_are_not_read() -> None:
    assert await ask(connection(), {"auth": {"mode": "none", "jwt": {"secret": "${NOT_SET}"}}}) is OPEN
    with pytest.raises(InvalidConfig, match="NOT_SET"):
        await ask(connection(), {"auth": {"mode": "jwt", "jwt": {"secret": "${NOT_SET}"}}})


@pytest.mark.parametrize(
    ("auth", "part"),
    [
        ({"mode": "jwd"}, 'unknown authenticator "jwd" at auth.mode.*did you mean "jwt"'),
        ({"mode": "jwt", "jwt": {"secrett": "x"}}, 'auth.jwt.secrett.*did you mean "secret"'),
        ({"mode": "jwt", "jwt": {"algorithm": "none"}}, "auth.jwt.algorithm must be one of HS256"),
        ({"mode": "jwt", "jwt": {"algorithm": "HS257"}}, "auth.jwt.algorithm must be one of HS256"),
        ({"mode": "jwt", "jwt": {"leewaySeconds": -1}}, "auth.jwt.leewaySeconds must be from 0 to 300"),
    ],
)
async def test_mistakes_name_their_path(auth: dict[str, Any], part: str) -> None:
    with pytest.raises(InvalidConfig, match=part):
        await ask(connection(), {"auth": auth})


async def test_odd_keys_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await ask(connection(), {"auth": {"jwtt": {}}})
    assert 'unknown key "jwtt" at auth; did you mean "jwt"?' in caplog.text


async def test_trusted_services_come_first() -> None:
    services = [
        {"name": "billing", "key": "k1", "scope": ["task:create"], "taskIds": ["t"]},
        {"name": "x", "key": "k2", "taskIds": "*"},
    ]
    for auth in ({"mode": "none"}, {"mode": "jwt", "jwt": {"secret": SECRET}}):
        data = {"auth": auth, "trustedServices": services}
        billing = await ask(connection(x_taskcast_service_key="k1"), data)
        assert billing.subject == "svc:billing" and billing.allows("task:create", "t") and not billing.may_see("u")
        assert (await ask(bearer("k2"), data)).task_ids is None
        with pytest.raises(Unauthorized, match="Invalid service key"):
            await ask(connection(x_taskcast_service_key="k3"), data)


async def test_custom_functions() -> None:
    async def later(asked: Connection) -> dict[str, Any] | None:
        who = asked.headers.get("x-user")
        return {"sub": who, "scope": ["task:create"], "taskIds": ["t"]} if who else None

    def at_once(asked: Connection) -> Principal | None:
        if asked.query_params.get("banned"):
            raise Forbidden("Banned")
        return Principal(scopes=frozenset({"*"}), subject=asked.query_params.get("user"), name="custom:me")

    for given in (later, {"authenticate": later}):
        data = {"auth": {"mode": "custom", "custom": given}}
        principal = await ask(connection(x_user="ann"), data)
        assert principal.name == "custom:ann" and principal.allows("task:create", "t") and not principal.may_see("u")
        with pytest.raises(Unauthorized, match=r"^Unauthorized$"):
            await ask(connection(), data)
    principal = await ask(connection("user=bob"), {"auth": {"mode": "custom", "custom": at_once}})
    assert principal.subject == "bob"
    with pytest.raises(Forbidden, match="Banned"):
        await ask(connection("banned=1"), {"auth": {"mode": "custom", "custom": at_once}})


def named_by_path(_: Connection) -> dict[str, Any]:
    return {"scope": ["*"]}


async def test_custom_by_name_and_its_mistakes(caplog: pytest.LogCaptureFixture) -> None:
    data = {"auth": {"mode": "custom", "custom": {"authenticate": "tests.server.test_auth_assembly:named_by_path"}}}
    assert (await ask(connection(), data)).scopes == {"*"}
    for wrong in ("tests.server.test_auth_assembly:absent", "no.such.module:x", "nonsense", ":", 5):
        with pytest.raises(ConfigError, match=r"auth\.custom"):
            await ask(connection(), {"auth": {"mode": "custom", "custom": {"authenticate": wrong}}})
    with caplog.at_level(logging.WARNING), pytest.raises(Unauthorized, match=r"^Unauthorized$"):
        await ask(connection(), {"auth": {"mode": "custom"}})
    assert "auth.custom.authenticate" in caplog.text


@pytest.mark.parametrize("answer", [True, "alice", 5, {"scope": "everything"}, {"taskIds": 3}, {"exp": "x"}])
async def test_an_answer_that_makes_no_sense_lets_nobody_in(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(Unauthorized, match=r"^Unauthorized$"):
        await CustomAuthenticator(lambda _: answer).authenticate(connection())
    assert "custom authenticator" in caplog.text


async def test_custom_sees_the_api_key_itself() -> None:
    def by_api_key(asked: Connection) -> dict[str, Any] | None:
        return {"sub": "mine"} if asked.headers.get("x-api-key") == "mine" else None

    data = {"auth": {"mode": "custom", "custom": by_api_key}, "trustedServices": [{"name": "x", "key": "k"}]}
    assert (await ask(connection(x_api_key="mine"), data)).subject == "mine"


@frozen
class CookieOptions:
    realm: str = option(env="COOKIE_REALM")


class Cookies:
    """Somebody else's authenticator."""

    @hookimpl
    def taskcast_authenticators(self, registry: Registry) -> None:
        registry.add("cookie-jar", self.open, options=CookieOptions)

    @asynccontextmanager
    async def open(self, options: CookieOptions) -> AsyncIterator[Authenticator]:
        yield CustomAuthenticator(lambda asked: {"sub": f"{options.realm}/{asked.headers['cookie']}"})


async def test_other_distributions_bring_modes_of_their_own() -> None:
    for data, env in (
        ({"auth": {"mode": "cookie-jar", "cookie-jar": {"realm": "r"}}}, {}),
        ({"auth": {"mode": "cookie-jar"}}, {"COOKIE_REALM": "r"}),
    ):
        assert (await ask(connection(cookie="c"), data, Cookies(), **env)).subject == "r/c"
    with pytest.raises(InvalidConfig, match=r"auth\.cookie"):
        await ask(connection(cookie="c"), {"auth": {"mode": "cookie-jar"}}, Cookies())


async def test_what_embedders_may_pass() -> None:
    assert isinstance(as_authenticator(None), OpenAuthenticator)
    mine = OpenAuthenticator()
    assert as_authenticator(mine) is mine
    assert (await as_authenticator(named_by_path).authenticate(connection())).scopes == {"*"}


async def test_top_level_keys_have_variables() -> None:
    config, _ = configured({}, TASKCAST_ADMIN_API="true", TASKCAST_ADMIN_TOKEN="from-the-environment")
    access = config.section(AccessOptions)
    assert access.admin_api and access.admin_token == "from-the-environment"


async def test_the_sections_of_the_server() -> None:
    config, _ = configured(
        {
            "auth": {"mode": "jwt", "jwt": {"secret": SECRET}, "maxStreamSeconds": 60, "ticketSecret": "t"},
            "adminApi": True,
            "adminToken": "a",
            "webhook": {"allowPrivateNetworks": True, "defaultRetry": {"retries": 5, "backoff": "linear"}},
        }
    )
    auth, access, webhook = (config.section(cls) for cls in (AuthOptions, AccessOptions, WebhookOptions))
    assert auth.max_stream_seconds == 60 and auth.ticket_secret == "t" and access.admin_token == "a"  # type: ignore[attr-defined]
    assert webhook.default_retry.retries == 5 and webhook.default_retry.timeout_ms == 5000  # type: ignore[attr-defined]
    assert not config.warnings
    found = jwt_options(config.section(AuthOptions))
    assert found and found.secret == SECRET
    assert jwt_options(configured({})[0].section(AuthOptions)) is None


def test_registering_loads_neither_cryptography_nor_an_http_client() -> None:
    program = "import sys, taskcast_server.plugin; print(sorted({'cryptography', 'httpx', 'jwt'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"

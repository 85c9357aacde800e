"""From parsed data to typed settings: sections, precedence, variables, warnings, errors, secrets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
from attrs import frozen

from taskcast_core.config import (
    SECRET,
    Config,
    InvalidConfig,
    Options,
    Rank,
    Section,
    SectionRegistry,
    load_config,
    option,
)
from taskcast_core.errors import ConfigError, PluginError, TaskcastError
from taskcast_core.models import CleanupRule, CleanupTrigger


@frozen
class Retry:
    retries: int = option(3, minimum=0, maximum=20)
    backoff: Literal["fixed", "linear", "exponential"] = "exponential"


@frozen
class Sentry:
    dsn: str | None = option(None, env="SENTRY_DSN", secret=True)
    rate: float = 1.0
    tags: tuple[str, ...] = ()
    retry: Retry = option(factory=Retry)


@frozen
class Auth:
    mode: str = option("none", env="TASKCAST_AUTH_MODE")
    methods: dict[str, Options] = option(extras=True, factory=dict)


@frozen
class Jwt:
    secret: str = option(env="TASKCAST_JWT_SECRET", secret=True)
    public_key_file: Path | None = option(None, env="TASKCAST_JWT_PUBLIC_KEY_FILE")
    leeway_s: int = 0


@frozen
class Server:
    port: int = option(3721, minimum=0, maximum=65535)
    admin_api: bool = option(default=False)
    admin_token: str | None = option(None, secret=True, only_if="admin_api")
    auth: Auth = option(factory=Auth)
    check: Callable[[str], bool] | None = None
    labels: dict[str, int] = attrs.field(factory=dict)


@frozen
class ServerLimits:
    max_body_bytes: int = option(1 << 20, minimum=1)


SECTIONS = (
    Section("", Server, "server"),
    Section("sentry", Sentry, "sentry"),
    Section("limits", ServerLimits, "server"),
)


class Installed:
    """The sections of a set of plugins, without the plugins."""

    def sections_for(self, allowed: Any) -> tuple[Section, ...]:
        return SECTIONS


def make(data: dict[str, Any] | None = None, **kwargs: Any) -> Config:
    return Config.of(data, plugins=Installed(), **kwargs)


def problems(data: dict[str, Any], **kwargs: Any) -> InvalidConfig:
    with pytest.raises(InvalidConfig) as caught:
        make(data, **kwargs).check()
    return caught.value


def test_defaults_are_those_of_the_wire_spec() -> None:
    core = make().core
    lifecycle = core.storage_lifecycle
    assert attrs.astuple(lifecycle) == (False, 86400, 3600, 1000, 10_000, 30, 5, 100)  # the fifth is ours
    assert attrs.astuple(core.workers.defaults) == ("external", 30_000, 90_000, 10_000, "reassign", 30_000)
    assert (core.log_level, core.storage, core.plugins, core.hooks, core.cleanup.rules) == ("info", None, None, (), ())
    assert core.limits.max_event_types == 1000
    assert core.adapters.broadcast.name is None


def test_sections_by_class_and_by_name() -> None:
    config = make({"sentry": {"dsn": "x", "retry": {"retries": 5}}, "limits": {"maxBodyBytes": 7, "maxEventTypes": 8}})
    assert config.section(Sentry) == Sentry(dsn="x", retry=Retry(5))
    assert config.section_named("sentry") is config.section(Sentry)
    assert config.section(ServerLimits).max_body_bytes == 7
    assert config.core.limits.max_event_types == 8
    assert config.warnings == ()
    with pytest.raises(LookupError, match="not registered"):
        config.section(Retry)
    with pytest.raises(LookupError, match="sentry"):
        config.section_named("sentri")


def test_cleanup_rules_are_models() -> None:
    config = make(
        {"cleanup": {"rules": [{"target": "events", "trigger": {"afterMs": 5}, "eventFilter": {"levels": ["debug"]}}]}}
    )
    (rule,) = config.core.cleanup.rules
    assert isinstance(rule, CleanupRule)
    assert rule.trigger == CleanupTrigger(5)
    assert rule.event_filter is not None
    assert rule.event_filter.levels == ("debug",)
    wrong = problems({"cleanup": {"rules": [{"target": "all"}, {"target": "some"}]}})
    assert wrong.path == "cleanup.rules[1].target"
    assert wrong.expected == "one of all, events, task"


# ── precedence ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_flag_over_environment_over_file_over_default() -> None:
    data, env, flags = {"port": 1}, {"TASKCAST_PORT": "2"}, {"port": 3}
    assert make().section(Server).port == 3721
    assert make(data).section(Server).port == 1
    assert make(data, env=env).section(Server).port == 2
    assert make(data, env=env, flags=flags).section(Server).port == 3
    assert make(data, env=env, flags={"port": None}).section(Server).port == 2
    assert make(data, env={"TASKCAST_PORT": ""}).section(Server).port == 1


def test_where_a_value_came_from() -> None:
    config = make(
        {"logLevel": "warn"}, env={"TASKCAST_PORT": "2", "SENTRY_DSN": "https://key@host"}, flags={"adminApi": True}
    )
    seen = {path: (setting.value, str(setting.origin)) for path, setting in config.provenance.items()}
    assert seen["logLevel"] == ("'warn'", "file")
    assert seen["port"] == ("2", "env TASKCAST_PORT")
    assert seen["adminApi"] == ("True", "flag adminApi")
    assert seen["sentry.dsn"] == ("***", "env SENTRY_DSN")
    assert seen["sentry.retry.retries"] == ("3", "default")
    assert config.provenance["port"].origin.rank is Rank.ENV


@pytest.mark.parametrize(
    "name",
    [
        "TASKCAST_WORKERS__DEFAULTS__HEARTBEAT_INTERVAL_MS",
        "TASKCAST_workers__defaults__heartbeatIntervalMs",
        "TASKCAST_WORKERS__defaults__heartbeat_interval_ms",
    ],
)
def test_every_scalar_has_a_variable(name: str) -> None:
    assert make(env={name: "77"}).core.workers.defaults.heartbeat_interval_ms == 77


def test_variables_by_path_reach_plugin_options_and_lists() -> None:
    env = {
        "TASKCAST_AUTH__JWT__SECRET": "s",
        "TASKCAST_SENTRY__TAGS": "a, b",
        "TASKCAST_ADAPTERS__SHORT_TERM__PROVIDER": "redis",
        "TASKCAST_PLUGINS": "one,two",
    }
    config = make({"auth": {"jwt": {"leewayS": 4}}}, env=env)
    assert config.section(Server).auth.methods["jwt"].structure(Jwt) == Jwt("s", None, 4)
    assert config.section(Sentry).tags == ("a", "b")
    assert config.core.adapters.short_term_store.name == "redis"
    assert config.core.plugins == ("one", "two")


def test_named_variables_count_without_a_section_in_the_file() -> None:
    config = make(env={"SENTRY_DSN": "x", "TASKCAST_AUTH_MODE": "jwt", "TASKCAST_TTL_SWEEP_BATCH_SIZE": "9"})
    assert config.section(Sentry).dsn == "x"
    assert config.section(Server).auth.mode == "jwt"
    assert config.core.storage_lifecycle.ttl_sweep_batch_size == 9


def test_the_variable_by_path_is_more_exact_than_the_named_one() -> None:
    env = {"TASKCAST_AUTH_MODE": "jwt", "TASKCAST_AUTH__MODE": "custom"}
    assert make({"auth": {"mode": "none"}}, env=env).section(Server).auth.mode == "custom"


def test_a_flag_may_be_a_stronger_named_variable() -> None:
    config = make(env={"SENTRY_DSN": "env"}, flags={"SENTRY_DSN": "flag"})
    assert config.section(Sentry).dsn == "flag"


# ── interpolation in place ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_whole_reference_takes_the_type_of_its_option() -> None:
    data = {"port": "${PORT}", "adminApi": "${ADMIN:-yes}", "sentry": {"rate": "${RATE}"}, "labels": {"a": "${PORT}"}}
    config = make(data, env={"PORT": "80", "RATE": "0.5"})
    server = config.section(Server)
    assert (server.port, server.admin_api, server.labels) == (80, True, {"a": 80})
    assert config.section(Sentry).rate == 0.5


def test_an_unset_variable_fails_where_it_is_used_with_its_path() -> None:
    config = make({"sentry": {"dsn": "${NOT_SET}"}, "port": 5, "auth": {"jwt": {"secret": "${ALSO_NOT}"}}})
    server = config.section(Server)
    assert server.port == 5
    with pytest.raises(InvalidConfig) as caught:
        config.section(Sentry)
    assert caught.value.path == "sentry.dsn"
    assert caught.value.problems[0].variable == "NOT_SET"
    with pytest.raises(InvalidConfig, match=r"auth\.jwt\.secret.*ALSO_NOT"):
        server.auth.methods["jwt"].structure(Jwt)
    with pytest.raises(InvalidConfig, match="NOT_SET"):
        config.check()


def test_an_empty_default_leaves_the_option_alone() -> None:
    assert make({"port": "${PORT:-}", "sentry": {"tags": ["a", "${NONE:-}"]}}).section(Server).port == 3721


def test_what_is_switched_off_may_name_unset_variables() -> None:
    off = make({"adminToken": "${TOKEN}", "workers": {"enabled": False, "defaults": {"offerTimeoutMs": "${T}"}}})
    assert off.section(Server).admin_token is None
    assert off.core.workers.defaults.offer_timeout_ms == 10_000
    on = problems(
        {
            "adminApi": True,
            "adminToken": "${TOKEN}",
            "workers": {"enabled": True, "defaults": {"offerTimeoutMs": "${T}"}},
        }
    )
    assert {each.variable for each in on.problems} == {"TOKEN", "T"}


def test_a_stronger_source_hides_an_unset_variable() -> None:
    assert make({"port": "${PORT}"}, env={"TASKCAST_PORT": "8"}).section(Server).port == 8


# ── paths ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    file = tmp_path / "etc" / "taskcast.config.yaml"
    file.write_text("auth:\n  jwt:\n    secret: x\n    publicKeyFile: keys/jwt.pub\n")

    def key(env: dict[str, str]) -> Path | None:
        config = load_config(file, cwd=tmp_path, env=env, sections=SECTIONS)
        return config.section(Server).auth.methods["jwt"].structure(Jwt).public_key_file

    assert key({}) == tmp_path / "etc" / "keys" / "jwt.pub"
    assert key({"TASKCAST_JWT_PUBLIC_KEY_FILE": "k.pub"}) == Path("k.pub")
    assert key({"TASKCAST_AUTH__JWT__PUBLIC_KEY_FILE": "/abs/k.pub"}) == Path("/abs/k.pub")


# ── spellings and unknown keys ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("key", ["shortTerm", "shortTermStore", "short_term_store"])
def test_both_spellings_of_the_adapters(key: str) -> None:
    adapters = make({"adapters": {key: {"provider": "x", "url": "u"}, "longTerm": "postgres"}}).core.adapters
    assert (adapters.short_term_store.name, adapters.short_term_store.options.keys()) == ("x", ["url"])
    assert adapters.long_term_store.name == "postgres"


def test_one_option_under_two_spellings_is_refused() -> None:
    wrong = problems({"adapters": {"shortTerm": {"provider": "a"}, "shortTermStore": {"provider": "b"}}})
    assert wrong.path == "adapters.shortTermStore"
    assert "given twice, as shortTermStore and shortTerm" in str(wrong)


def test_unknown_keys_are_warned_about_with_the_nearest_known_one() -> None:
    config = make(
        {
            "prot": 1,
            "workers": {"defaults": {"hearbeatIntervalMs": 5}},
            "cleanup": {"rules": [{"target": "all", "mach": {}}]},
        },
        env={"TASKCAST_SENTRY__DNS": "x"},
    )
    assert sorted(config.warnings) == [
        'unknown key "dns" at sentry (from TASKCAST_SENTRY__DNS); did you mean "dsn"?',
        'unknown key "hearbeatIntervalMs" at workers.defaults; did you mean "heartbeatIntervalMs"?',
        'unknown key "mach" at cleanup.rules[0]; did you mean "match"?',
        'unknown key "prot"; did you mean "port"?',
    ]


def test_top_level_keys_are_judged_once_the_plugins_are_known(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "taskcast.config.yaml").write_text("sentry: {dsn: x}\nqqq: 1\n")
    config = load_config(cwd=tmp_path, env={})
    assert config.warnings == ()
    assert caplog.text == ""
    complete = config.with_plugins(Installed())
    assert complete.section(Sentry).dsn == "x"
    assert complete.warnings == ('unknown key "qqq"; no installed plugin reads it',)


def test_warnings_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "taskcast.config.json").write_text('{"workers": {"enabeld": true}}')
    assert len(load_config(cwd=tmp_path, env={}).warnings) == 1
    assert 'did you mean "enabled"?' in caplog.text


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("data", "path", "value", "expected"),
    [
        ({"port": "web"}, "port", "'web'", "from 0 to 65535"),
        ({"port": 70000}, "port", "70000", "from 0 to 65535"),
        ({"port": True}, "port", "True", "from 0 to 65535"),
        ({"port": 80.0}, "port", "80.0", "from 0 to 65535"),
        ({"adminApi": 1}, "adminApi", "1", "true or false"),
        ({"logLevel": "loud"}, "logLevel", "'loud'", "one of debug, info, warn, error"),
        ({"sentry": {"rate": "nan"}}, "sentry.rate", "'nan'", "a number"),
        ({"sentry": {"tags": [1]}}, "sentry.tags[0]", "1", "text (in quotes)"),
        ({"sentry": {"tags": {"a": 1}}}, "sentry.tags", "a mapping", "a list of text (in quotes)"),
        ({"sentry": {"retry": {"retries": -1}}}, "sentry.retry.retries", "-1", "from 0 to 20"),
        ({"sentry": "x"}, "sentry", "'x'", "a mapping"),
        ({"workers": [1]}, "workers", "a list", "a mapping"),
        ({"labels": {"a": "b"}}, "labels.a", "'b'", "an integer"),
        ({"check": "no"}, "check", "'no'", "a callable"),
        (
            {"storageLifecycle": {"ttlSweepBatchSize": 0}},
            "storageLifecycle.ttlSweepBatchSize",
            "0",
            "a positive integer",
        ),
        ({"adapters": {"broadcast": 5}}, "adapters.broadcast.provider", "5", "the name of a provider"),
        ({"hooks": ["x"]}, "hooks", "a list", "a list of live objects (from a Python configuration)"),
        ({"storage": 5}, "storage", "5", "the name of a provider"),
        ({"adminToken": 5}, "adminToken", "***", "text (in quotes)"),
    ],
)
def test_a_bad_value_says_path_value_and_expectation(
    data: dict[str, Any], path: str, value: str, expected: str
) -> None:
    wrong = problems(data)
    assert (wrong.path, wrong.value, wrong.expected) == (path, value, expected)
    assert str(wrong) == f"{path} must be {expected}, not {value}"


def test_a_bad_variable_is_named_as_the_variable() -> None:
    wrong = problems({}, env={"TASKCAST_STORAGE_LOCK_TTL_SECONDS": "soon"})
    assert str(wrong) == (
        "TASKCAST_STORAGE_LOCK_TTL_SECONDS (storageLifecycle.storageLockTtlSeconds)"
        " must be a positive integer, not 'soon'"
    )


def test_all_problems_are_told_together() -> None:
    wrong = problems({"port": "x", "logLevel": 1, "sentry": {"rate": [], "dsn": "${NONE}"}, "workers": {"enabled": 3}})
    assert {each.path for each in wrong.problems} == {
        "port",
        "logLevel",
        "sentry.rate",
        "sentry.dsn",
        "workers.enabled",
    }
    assert "5 problems" in str(wrong)
    assert isinstance(wrong, ConfigError)
    assert isinstance(wrong, TaskcastError)
    assert (wrong.code, wrong.retryable) == ("config_error", False)


def test_plugin_options_refuse_unknown_keys() -> None:
    methods = make({"auth": {"jwt": {"secrt": "x", "leewayS": "1"}}}).section(Server).auth.methods
    with pytest.raises(InvalidConfig) as caught:
        methods["jwt"].structure(Jwt)
    assert [each.path for each in caught.value.problems] == ["auth.jwt.secret", "auth.jwt.secrt"]
    assert 'auth.jwt.secrt is not a known option; did you mean "secret"?' in str(caught.value)
    assert "auth.jwt.secret (or TASKCAST_JWT_SECRET) is required" in str(caught.value)


def test_conditions_of_the_class_itself_are_reported_with_its_path() -> None:
    @attrs.frozen
    class Window:
        low: int = 0
        high: int = attrs.field(default=1)

        @high.validator
        def _ordered(self, _attribute: object, value: int) -> None:
            if value < self.low:
                raise ValueError("high must not be below low")

    with pytest.raises(InvalidConfig, match="window: high must not be below low"):
        Config.of({"window": {"low": 5, "high": 2}}, sections=[Section("window", Window)])


# ── secrets ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_secret_reaches_a_representation() -> None:
    data = {
        "sentry": {"dsn": "hunter2"},
        "auth": {"jwt": {"secret": "hunter2"}},
        "adapters": {"broadcast": {"provider": "x", "password": "hunter2"}},
    }
    config = make(data, env={"TASKCAST_AUTH__JWT__SECRET": "hunter2"})
    jwt = config.section(Server).auth.methods["jwt"].structure(Jwt)
    assert jwt.secret == "hunter2"
    sections = (config.core, config.section(Server), config.section(Sentry), jwt)
    shown = f"{config!r} {sections!r} {dict(config.provenance)!r}"
    assert "hunter2" not in shown
    wrong = problems({"sentry": {"dsn": ["hunter2"]}})
    assert "hunter2" not in str(wrong)
    assert "***" in str(wrong)


def test_validators_of_other_people_do_not_give_secrets_away() -> None:
    @attrs.frozen
    class Strict:
        token: str = attrs.field(default="a", metadata=SECRET, repr=False, validator=attrs.validators.matches_re("a+"))
        count: int = attrs.field(default=1, validator=attrs.validators.ge(1))
        both: int = 0

        def __attrs_post_init__(self) -> None:
            if self.both:
                raise ValueError(f"not with {self.token}")

    def strict(data: dict[str, Any]) -> str:
        with pytest.raises(InvalidConfig) as caught:
            Config.of({"strict": data}, sections=[Section("strict", Strict)])
        return str(caught.value)

    assert strict({"token": "hunter2"}) == "strict.token: not valid"
    assert strict({"count": 0}) == "strict.count: 'count' must be >= 1: 0"
    assert strict({"token": "aaa", "both": 1}) == "strict: not valid"


def test_one_problem_that_two_readers_find_is_told_once() -> None:
    assert str(problems({"limits": 5})) == "limits must be a mapping, not 5"


def test_passwords_in_urls_are_masked_even_where_nothing_is_declared_secret() -> None:
    wrong = problems({"port": "redis://user:hunter2@host/0"})
    assert wrong.value == "'redis://user:***@host/0'"


# ── who reads what ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_readers_of_one_key_are_refused_and_named() -> None:
    registry = SectionRegistry()
    registry.distribution = "first"
    registry.add("sentry", Sentry)
    registry.distribution = "second"
    registry.add("limits", ServerLimits)
    with pytest.raises(PluginError, match=r"second and first both read sentry\.dsn"):
        registry.add("sentry", attrs.make_class("Other", {"dsn": attrs.field(default=None)}))
    with pytest.raises(PluginError, match="attrs class"):
        registry.add("x", int)
    with pytest.raises(PluginError, match="second and taskcast-core both read logLevel"):
        registry.add_root(attrs.make_class("Mine", {"log_level": attrs.field(default="info")}))
    with pytest.raises(PluginError, match=r"second and taskcast-core both read workers\.enabled"):
        registry.add("workers", attrs.make_class("Mine", {"enabled": attrs.field(default=True)}))
    with pytest.raises(PluginError, match="without meaning"):
        registry.add("y", attrs.make_class("Lost", {"name": attrs.field(type="NoSuchType")}))  # type: ignore[arg-type]


def test_a_live_instance_may_stand_for_a_section() -> None:
    sentry = Sentry(dsn="live")
    assert make({"sentry": sentry}).section(Sentry) is sentry

"""Discovery, registration and selection, with real distributions on the import path."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import attrs
import pytest
from attrs import frozen

from taskcast_core.config import Config, InvalidConfig, Rank, load_config, option
from taskcast_core.errors import PluginError
from taskcast_core.hookspecs import REGISTRATION_HOOKS, hookimpl, hookspec
from taskcast_core.plugins import Plugins
from taskcast_core.registry import Registry

pytestmark = pytest.mark.anyio

Install = Callable[..., None]

STORE = """
from contextlib import asynccontextmanager
from attrs import frozen
from taskcast_core.config import option
from taskcast_core.hookspecs import hookimpl

@frozen
class Options:
    url: str = option(env="TASKCAST_DYNAMO_URL", secret=True)
    table: str = "tasks"

@hookimpl
def taskcast_short_term_stores(registry):
    registry.add("dynamo", "{module}_store:open_store", options=Options, chosen_by="TASKCAST_DYNAMO_URL")

@hookimpl
def taskcast_broadcasts(registry):
    registry.add("dynamo", "{module}_store:open_bell")

@hookimpl
def taskcast_config_sections(registry):
    registry.add("{module}", Options)

@hookimpl
def taskcast_task_created(task):
    pass
"""
MARKED = "from taskcast_core.hookspecs import hookimpl\n"
FACTORIES = """
from contextlib import asynccontextmanager
opened = []

@asynccontextmanager
async def open_store(options, context):
    opened.append((options.url, options.table, context))
    yield "store"
    opened.append("closed")

@asynccontextmanager
async def open_bell():
    yield "bell"
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a distribution with one entry point on the import path, as an installer would."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def put(distribution: str, module: str, code: str, *, entry: str | None = None, version: str = "1.2.3") -> None:
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[taskcast]\n{entry or module} = {module}\n")
        (site / f"{module}.py").write_text(code)

    yield put
    for name in set(sys.modules) - before:
        if str(site) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def dynamo(install: Install, tmp_path: Path) -> None:
    install("taskcast-dynamo", "tc_dynamo", STORE.replace("{module}", "tc_dynamo"), entry="dynamo")
    (tmp_path / "site-packages" / "tc_dynamo_store.py").write_text(FACTORIES)


def only(*names: str) -> list[str]:
    return list(names)


def config(data: dict[str, Any] | None = None, **kwargs: Any) -> Config:
    return Config.of(data, **kwargs)


# ── discovery ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_installed_distribution_is_found_and_described(dynamo: None, tmp_path: Path) -> None:
    plugins = Plugins(always=()).load(only("taskcast-dynamo"))
    lines = {(each.kind, each.name): each for each in plugins.describe() if each.distribution == "taskcast-dynamo"}
    assert set(lines) == {
        ("plugin", "dynamo"),
        ("short-term store", "dynamo"),
        ("broadcast", "dynamo"),
        ("config section", "tc_dynamo"),
        ("observer", "taskcast_task_created"),
    }
    store = lines["short-term store", "dynamo"]
    assert (store.version, store.location) == ("1.2.3", "tc_dynamo_store:open_store")
    assert Path(store.path) == tmp_path / "site-packages"
    assert lines["plugin", "dynamo"].location == "tc_dynamo"


async def test_factories_are_imported_when_they_are_opened(dynamo: None) -> None:
    plugins = Plugins(always=()).load(only("dynamo"))
    assert "tc_dynamo_store" not in sys.modules
    chosen = plugins.select("short_term_store", config({"storage": "dynamo", "adapters": {"shortTerm": {"url": "u"}}}))
    assert chosen is not None
    async with chosen.open("context") as store:
        assert store == "store"
        assert sys.modules["tc_dynamo_store"].opened == [("u", "tasks", "context")]
    assert sys.modules["tc_dynamo_store"].opened[-1] == "closed"


@pytest.mark.parametrize("allowed", [["taskcast-dynamo"], ["Taskcast_Dynamo"], ["dynamo"]])
def test_the_allow_list_names_distributions_or_entry_points(install: Install, dynamo: None, allowed: list[str]) -> None:
    install("taskcast-bad", "tc_bad", "raise RuntimeError('must not be imported')")
    plugins = Plugins(always=()).load(allowed)
    assert plugins.short_term_stores.names() == ["dynamo"]
    kept_out = [each for each in plugins.describe() if not each.loaded]
    assert "taskcast-bad" in {each.distribution for each in kept_out}
    assert "tc_bad" not in sys.modules


def test_an_empty_allow_list_still_loads_what_is_always_there(dynamo: None) -> None:
    assert Plugins(always=()).load([]).short_term_stores.names() == []
    assert Plugins(always=("taskcast-dynamo",)).load([]).short_term_stores.names() == ["dynamo"]


def test_an_allowed_plugin_that_is_not_installed(dynamo: None) -> None:
    with pytest.raises(PluginError, match=r'plugins\[1\]: "taskcast-dinamo" is not installed.*mean "taskcast-dynamo"'):
        Plugins().load(["dynamo", "taskcast-dinamo"])


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("x = (", "SyntaxError"),
        (
            MARKED + "@hookimpl\ndef taskcast_broadcasts(registry): 1/0",
            "ZeroDivisionError",
        ),
        (
            MARKED + "@hookimpl\ndef taskcast_task_creatd(task): ...",
            'mean "taskcast_task_created"',
        ),
        (MARKED + "@hookimpl\ndef taskcast_task_created(tusk): ...", "tusk"),
        (
            MARKED + "@hookimpl(wrapper=True)\ndef taskcast_task_created(task): yield",
            "wrapper",
        ),
    ],
)
def test_a_broken_plugin_is_one_error_that_names_it(install: Install, code: str, says: str) -> None:
    install("taskcast-broken", "tc_broken", code)
    with pytest.raises(PluginError) as caught:
        Plugins(always=()).load(["taskcast-broken"])
    assert "taskcast-broken 1.2.3" in str(caught.value)
    assert says in str(caught.value)


def test_two_distributions_that_offer_the_same_name(install: Install, dynamo: None) -> None:
    install("taskcast-other", "tc_other", STORE.replace("{module}", "tc_other"))
    with pytest.raises(
        PluginError, match=r'taskcast-(other|dynamo) and taskcast-(other|dynamo) both offer the \S+ "dynamo"'
    ):
        Plugins(always=()).load(["taskcast-other", "taskcast-dynamo"])


def test_the_file_says_what_may_load_and_plugins_say_what_the_file_may_hold(dynamo: None, tmp_path: Path) -> None:
    (tmp_path / "taskcast.config.yaml").write_text("plugins: [dynamo]\ntc_dynamo: {url: u}\nother: 1\n")
    plugins = Plugins(always=())
    loaded = load_config(cwd=tmp_path, env={}, plugins=plugins)
    assert plugins.short_term_stores.names() == ["dynamo"]
    assert loaded.section_named("tc_dynamo").url == "u"
    assert loaded.warnings == ('unknown key "other"; no installed plugin reads it',)
    (tmp_path / "taskcast.config.yaml").write_text("plugins: []\ntc_dynamo: {url: u}\n")
    assert len(load_config(cwd=tmp_path, env={}, plugins=Plugins(always=())).warnings) == 1


# ── plugins without a distribution ────────────────────────────────────────────────────────────────────────────────────


@frozen
class DiskOptions:
    path: str = option("disk.db", env="TASKCAST_DISK_PATH")
    sync: bool = False


@asynccontextmanager
async def open_thing(options: object) -> AsyncIterator[object]:
    yield options


class Local:
    """An embedder's own plugin object; its methods need no marker."""

    def taskcast_broadcasts(self, registry: Registry) -> None:
        registry.add("memory", open_thing)
        registry.add("disk", open_thing, options=DiskOptions)

    def taskcast_short_term_stores(self, registry: Registry) -> None:
        registry.add("memory", open_thing)
        registry.add("disk", open_thing, options=DiskOptions)
        registry.add("net", open_thing, options=DiskOptions, chosen_by="TASKCAST_NET_URL")
        registry.add("cloud", open_thing, options=DiskOptions, chosen_by="TASKCAST_CLOUD_URL")

    def taskcast_long_term_stores(self, registry: Registry) -> None:
        registry.add("archive", open_thing, chosen_by="TASKCAST_ARCHIVE_URL")


@pytest.fixture
def local() -> Plugins:
    return Plugins([Local()], discover=False).load()


def test_modules_and_objects_are_taken_directly() -> None:
    module = ModuleType("embedded")

    @hookimpl
    def taskcast_authenticators(registry: Registry) -> None:
        registry.add("house", open_thing)

    vars(module).update(taskcast_authenticators=taskcast_authenticators, taskcast_unmarked=lambda: None)
    plugins = Plugins([Local(), module], discover=False).load()
    assert plugins.authenticators.names() == ["house"]
    assert plugins.broadcasts.names() == ["disk", "memory"]
    assert {each.distribution for each in plugins.describe()} == {"this program"}


def test_a_misspelt_method_of_an_object_is_found() -> None:
    class Typo:
        def taskcast_broadcast(self, registry: Registry) -> None: ...

    with pytest.raises(PluginError, match='unknown hook taskcast_broadcast; did you mean "taskcast_broadcasts"'):
        Plugins([Typo()], discover=False).load()


def test_a_distribution_may_add_hooks_of_its_own() -> None:
    specs = ModuleType("specs")
    specs.taskcast_routes = hookspec(lambda routes: None)  # type: ignore[attr-defined]

    class Routes:
        def taskcast_routes(self, routes: list[str]) -> None:
            routes.append("/x")

    routes: list[str] = []
    plugins = Plugins([Routes()], discover=False, specs=[specs]).load()
    plugins.hooks.hook.taskcast_routes(routes=routes)
    assert routes == ["/x"]
    with pytest.raises(PluginError, match="taskcast_routes"):
        Plugins([Routes()], discover=False).load()


def test_loading_twice_changes_nothing(local: Plugins) -> None:
    assert local.load(["nothing"]) is local
    assert local.broadcasts.names() == ["disk", "memory"]


@pytest.mark.parametrize(
    ("name", "target", "options"),
    [("", open_thing, None), ("x", "no colon", None), ("x", ":open", None), ("x", open_thing, dict), ("x", 5, None)],
)
def test_registrations_are_checked(name: str, target: Any, options: Any) -> None:
    with pytest.raises(PluginError, match="this program"):
        Registry("broadcast").add(name, target, options=options)


def test_options_whose_types_mean_nothing_are_refused() -> None:
    lost = attrs.make_class("Lost", {"name": attrs.field(type="NoSuchType")})  # type: ignore[arg-type]
    with pytest.raises(PluginError, match="NoSuchType"):
        Registry("broadcast").add("x", open_thing, options=lost)


@pytest.mark.parametrize(
    "target", ["no_such_module_here:open", "json:no_such_function", "json:decoder", lambda: "junk", "json:dumps"]
)
def test_a_factory_that_is_none_is_an_error_when_it_is_opened(target: Any) -> None:
    registry = Registry("broadcast")
    registry.add("x", target)
    with pytest.raises(PluginError, match='the broadcast "x" of this program'):
        registry.get("x").open()


@pytest.mark.parametrize("kind", ["raises", "exits", "adds junk", "returns junk"])
@pytest.mark.parametrize("hook", REGISTRATION_HOOKS)
def test_a_bad_registration_stops_the_start_with_one_error_and_junk_is_ignored(hook: str, kind: str) -> None:
    def register(registry: Any) -> object:
        if kind == "raises":
            raise RuntimeError("broken")
        if kind == "exits":
            raise SystemExit(3)
        if kind == "adds junk":
            registry.add("x", 5)
        return object()

    plugins = Plugins([SimpleNamespace(**{hook: register})], discover=False)
    if kind == "returns junk":
        plugins.load()
    else:
        with pytest.raises(PluginError, match="this program"):
            plugins.load()


# ── selection ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def names(plugins: Plugins, data: dict[str, Any] | None = None, **kwargs: Any) -> tuple[str | None, ...]:
    chosen = [
        plugins.select(role, config(data, **kwargs)) for role in ("broadcast", "short_term_store", "long_term_store")
    ]
    return tuple(each.name if each else None for each in chosen)


DISK_IN_FILE = {"adapters": {"broadcast": "disk", "shortTerm": {"provider": "disk", "path": "p"}}}


@pytest.mark.parametrize(
    ("data", "env", "flags", "expected"),
    [
        ({}, {}, {}, ("memory", "memory", None)),
        (DISK_IN_FILE, {}, {}, ("disk", "disk", None)),
        ({"storage": "disk"}, {}, {}, ("disk", "disk", None)),
        ({"storage": "memory", **DISK_IN_FILE}, {}, {}, ("disk", "disk", None)),
        (DISK_IN_FILE, {"TASKCAST_STORAGE": "memory"}, {}, ("memory", "memory", None)),
        (DISK_IN_FILE, {"TASKCAST_STORAGE": "disk"}, {"storage": "memory"}, ("memory", "memory", None)),
        (DISK_IN_FILE, {"TASKCAST_STORAGE": "net"}, {}, ("disk", "net", None)),
        (
            {},
            {"TASKCAST_STORAGE": "memory", "TASKCAST_ADAPTERS__BROADCAST__PROVIDER": "disk"},
            {},
            ("disk", "memory", None),
        ),
        ({}, {"TASKCAST_NET_URL": "u"}, {}, ("memory", "net", None)),
        (DISK_IN_FILE, {"TASKCAST_NET_URL": "u"}, {}, ("disk", "disk", None)),
        ({}, {"TASKCAST_NET_URL": ""}, {}, ("memory", "memory", None)),
        ({}, {"TASKCAST_ARCHIVE_URL": "u"}, {}, ("memory", "memory", "archive")),
        ({"adapters": {"longTerm": "archive"}}, {}, {}, ("memory", "memory", "archive")),
    ],
)
def test_who_plays_which_role(
    local: Plugins, data: dict[str, Any], env: dict[str, str], flags: dict[str, str], expected: tuple[str | None, ...]
) -> None:
    assert names(local, data, env=env, flags=flags) == expected


def test_options_of_the_file_stay_with_the_provider_that_the_file_names(local: Plugins) -> None:
    data = {"adapters": {"shortTerm": {"provider": "disk", "path": "p", "sync": True}}}
    kept = local.select("short_term_store", config(data))
    assert kept is not None
    assert kept.options == DiskOptions("p", True)
    left = local.select("short_term_store", config(data, env={"TASKCAST_STORAGE": "memory"}))
    assert left is not None
    assert left.options is None
    other = local.select(
        "short_term_store",
        config(data, env={"TASKCAST_STORAGE": "net", "TASKCAST_ADAPTERS__SHORT_TERM_STORE__SYNC": "true"}),
    )
    assert other is not None
    assert other.options == DiskOptions("disk.db", True)


def test_options_name_their_own_variables(local: Plugins) -> None:
    seen = config({"storage": "disk", "adapters": {"shortTerm": {"path": "file"}}}, env={"TASKCAST_DISK_PATH": "env"})
    chosen = local.select("short_term_store", seen)
    assert chosen is not None
    assert chosen.options == DiskOptions("env")
    assert seen.provenance["adapters.shortTermStore.path"].origin.rank is Rank.ENV


INSTALLED = "at adapters.broadcast.provider; installed are: disk, memory"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            {"adapters": {"broadcast": {"provider": "dsik"}}},
            f'unknown broadcast "dsik" {INSTALLED}; did you mean "disk"?',
        ),
        (
            {"adapters": {"broadcast": {"provider": "zzz"}}},
            f'unknown broadcast "zzz" {INSTALLED}; install the distribution that provides it',
        ),
        (
            {"adapters": {"broadcast": {"provider": "disk", "pth": "x"}}},
            'adapters.broadcast.pth is not a known option; did you mean "path"?',
        ),
        (
            {"adapters": {"broadcast": {"provider": "disk", "sync": "maybe"}}},
            "adapters.broadcast.sync must be true or false, not 'maybe'",
        ),
        (
            {"adapters": {"broadcast": {"provider": "memory", "size": 1}}},
            "adapters.broadcast.size is not a known option; there are none",
        ),
        (
            {"adapters": {"broadcast": {"path": "x"}}},
            "adapters.broadcast.provider is required beside path; installed are: disk, memory",
        ),
    ],
)
def test_a_wrong_adapter_is_one_clear_error(local: Plugins, data: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        local.select("broadcast", config(data))
    assert str(caught.value) == says


def test_everything_that_is_wrong_is_told_at_once(local: Plugins) -> None:
    data = {
        "adapters": {"broadcast": "dsik", "shortTerm": {"provider": "disk", "path": "${NONE}"}, "longTerm": "archve"},
    }
    with pytest.raises(InvalidConfig) as caught:
        local.check(config(data))
    assert [each.path for each in caught.value.problems] == [
        "adapters.broadcast.provider",
        "adapters.shortTermStore.path",
        "adapters.longTermStore.provider",
    ]
    local.check(config())


def test_an_unknown_storage_names_its_variable(local: Plugins) -> None:
    with pytest.raises(
        InvalidConfig, match=r'unknown short-term store "nope" at TASKCAST_STORAGE \(storage\); installed are'
    ):
        local.select("short_term_store", config(env={"TASKCAST_STORAGE": "nope"}))


def test_two_variables_that_choose_are_one_too_many(local: Plugins) -> None:
    with pytest.raises(InvalidConfig, match=r"net \(TASKCAST_NET_URL\) and cloud \(TASKCAST_CLOUD_URL\)"):
        local.select("short_term_store", config(env={"TASKCAST_NET_URL": "a", "TASKCAST_CLOUD_URL": "b"}))


async def test_a_live_object_is_used_as_it_is(local: Plugins) -> None:
    store = SimpleNamespace()
    chosen = local.select("short_term_store", config({"adapters": {"shortTermStore": {"provider": store}}}))
    assert chosen is not None
    async with chosen.open() as opened:
        assert opened is store


async def test_a_live_context_manager_is_entered(local: Plugins) -> None:
    entered = open_thing("opened")
    chosen = local.select("broadcast", config({"adapters": {"broadcast": entered}}))
    assert chosen is not None
    async with chosen.open() as opened:
        assert opened == "opened"


def test_options_classes_show_no_secrets(dynamo: None) -> None:
    plugins = Plugins(always=()).load(["dynamo"])
    chosen = plugins.select("short_term_store", config(env={"TASKCAST_DYNAMO_URL": "hunter2"}))
    assert chosen is not None
    assert attrs.asdict(chosen.options)["url"] == "hunter2"  # type: ignore[call-overload]
    assert "hunter2" not in f"{chosen!r}{chosen.options!r}"

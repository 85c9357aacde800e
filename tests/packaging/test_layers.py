"""Who may import whom; read from the sources, so that a late import counts, too."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.tools.version import ROOT

PACKAGES = {
    name: ROOT / f"taskcast-{name}" / "src" / f"taskcast_{name}"
    for name in ("core", "server", "redis", "postgres", "sentry", "client")
}
SIBLINGS = {f"taskcast_{name}" for name in PACKAGES}
NETWORK = {
    *(
        "aiohttp",
        "fastapi",
        "http",
        "httptools",
        "httpx",
        "requests",
        "starlette",
        "urllib.request",
        "urllib3",
    ),
    *("uvicorn", "websockets", "prometheus_client", "sentry_sdk"),
    *("asyncpg", "psycopg", "psycopg_pool", "redis", "valkey"),
}

MAY_NOT_IMPORT = {
    "core": NETWORK | (SIBLINGS - {"taskcast_core"}),
    "server": {
        "taskcast_redis",
        "taskcast_postgres",
        "taskcast_sentry",
        "taskcast_client",
        "redis",
        "psycopg",
    },
    "redis": SIBLINGS - {"taskcast_core", "taskcast_redis"},
    "postgres": SIBLINGS - {"taskcast_core", "taskcast_postgres"},
    "sentry": SIBLINGS - {"taskcast_core", "taskcast_sentry"},
    "client": SIBLINGS - {"taskcast_client"},
}


def modules(package: Path) -> dict[str, Path]:
    """Every module of a package, by its dotted name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(node: ast.AST, module: str, *, is_package: bool) -> Iterator[str]:
    """The dotted names that one import statement may load; of `from a import b` both `a` and `a.b`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        source = node.module or ""
        if node.level:
            parent = module.split(".")[: len(module.split(".")) - node.level + is_package]
            source = ".".join([*parent, *([source] if source else [])])
        yield source
        yield from (f"{source}.{alias.name}" for alias in node.names)


def imports_when_loaded(tree: ast.Module) -> Iterator[ast.AST]:
    """The import statements that run when the module is loaded: not those in functions or for types only."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting.extend(node.orelse)
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        waiting.extend(ast.iter_child_nodes(node))


def import_graph(package: Path) -> dict[str, set[str]]:
    """Module → the modules of the same package that it loads when it is imported."""
    known = modules(package)
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        graph[name] = set()
        for node in imports_when_loaded(ast.parse(path.read_text())):
            loaded = [each for each in imported(node, name, is_package=path.stem == "__init__") if each in known]
            # `from package import submodule` needs the submodule, and the package only as a way to it
            graph[name] |= set(loaded[1:] or loaded) if isinstance(node, ast.ImportFrom) else set(loaded)
        graph[name].discard(name)
    return graph


@pytest.mark.parametrize("name", PACKAGES)
def test_a_distribution_imports_only_what_its_layer_may(name: str) -> None:
    forbidden = MAY_NOT_IMPORT[name]
    faults = []
    for module, path in modules(PACKAGES[name]).items():
        for node in ast.walk(ast.parse(path.read_text())):
            targets = set(imported(node, module, is_package=path.stem == "__init__"))
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                targets.add(node.value.split(":")[0])  # import_module("…"), "module:attribute"
                targets = {each for each in targets if each.split(".")[0] in SIBLINGS}
            faults += [f"{module}: {each}" for each in targets if _within(each, forbidden)]
    assert not faults


def _within(target: str, forbidden: set[str]) -> bool:
    return any(target == each or target.startswith(f"{each}.") for each in forbidden)


@pytest.mark.parametrize("name", PACKAGES)
def test_no_circular_imports(name: str) -> None:
    try:
        TopologicalSorter(import_graph(PACKAGES[name])).prepare()
    except CycleError as error:
        pytest.fail("circular imports: " + " → ".join(reversed(error.args[1])), pytrace=False)


def test_a_circle_and_a_forbidden_import_are_seen(tmp_path: Path) -> None:
    package = tmp_path / "made_up"
    package.mkdir()
    (package / "__init__.py").write_text("from made_up.one import a\n")
    (package / "one.py").write_text("from .two import b\nimport redis.asyncio\na = b\n")
    (package / "two.py").write_text("def late():\n    from made_up import one\nb = late\n")
    assert import_graph(package) == {
        "made_up": {"made_up.one"}, "made_up.one": {"made_up.two"}, "made_up.two": set(),
    }  # fmt: skip
    (package / "two.py").write_text("from . import one\nb = one\n")
    with pytest.raises(CycleError):
        TopologicalSorter(import_graph(package)).prepare()
    tree = ast.parse((package / "one.py").read_text())
    names = {each for node in ast.walk(tree) for each in imported(node, "made_up.one", is_package=False)}
    assert any(_within(each, NETWORK) for each in names)


def test_importing_core_loads_nothing_of_the_network() -> None:
    program = "import sys, taskcast_core; print('\\n'.join(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert "taskcast_core" in loaded
    assert not NETWORK & set(loaded)

"""Search and parsing, with real files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from taskcast_core.config import Config, InvalidConfig, load_config

YAML = "logLevel: debug\nworkers:\n  enabled: true\n"
JSON = '{"logLevel": "debug", "workers": {"enabled": true}}'
TOML = 'logLevel = "debug"\n[workers]\nenabled = true\n'
PYTHON = "config = {'logLevel': 'debug', 'workers': {'enabled': True}}\n"
FORMATS = {".py": PYTHON, ".yaml": YAML, ".yml": YAML, ".json": JSON, ".toml": TOML}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def load(work: Path, home: Path, path: str | None = None) -> Config:
    return load_config(path, cwd=work, env={"TASKCAST_CONFIG_DIR": str(home)})


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_says_the_same(work: Path, home: Path, suffix: str) -> None:
    (work / f"taskcast.config{suffix}").write_text(FORMATS[suffix])
    config = load(work, home)
    assert config.core.log_level == "debug"
    assert config.core.workers.enabled is True
    assert config.source == work / f"taskcast.config{suffix}"
    assert config.warnings == ()


def test_first_hit_wins_and_nothing_is_merged(work: Path, home: Path) -> None:
    order = [work / f"taskcast.config{suffix}" for suffix in FORMATS]
    order += [home / f"taskcast.config{suffix}" for suffix in FORMATS]
    for path in order:
        path.write_text(FORMATS[path.suffix])
    for path in order:
        assert load(work, home).source == path
        path.unlink()
    assert load(work, home).source is None


def test_no_file_is_an_empty_configuration(work: Path, home: Path) -> None:
    config = load(work, home)
    assert (config.source, config.core.log_level, config.core.workers.enabled) == (None, "info", False)


def test_files_for_other_runtimes_are_passed_over_with_a_warning(
    work: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for suffix in (".ts", ".js", ".mjs"):
        (work / f"taskcast.config{suffix}").write_text("export default {}")
    (work / "taskcast.config.yaml").write_text(YAML)
    config = load(work, home)
    assert config.core.log_level == "debug"
    assert [Path(each.split()[0]).suffix for each in config.warnings] == [".ts", ".js", ".mjs"]
    assert "taskcast.config.ts" in caplog.text


def test_an_explicit_path_is_relative_to_the_working_directory(work: Path, home: Path) -> None:
    (work / "other.yaml").write_text(YAML)
    (work / "taskcast.config.yaml").write_text("logLevel: error")
    assert load(work, home, "other.yaml").core.log_level == "debug"
    assert load(work, home, str(work / "other.yaml")).core.log_level == "debug"


@pytest.mark.parametrize("name", ["missing.yaml", "taskcast.config.ts", "directory.yaml", "plain"])
def test_an_explicit_path_that_cannot_be_read_is_an_error(work: Path, home: Path, name: str) -> None:
    (work / "taskcast.config.ts").write_text("export default {}")
    (work / "plain").write_text("logLevel: debug")
    (work / "directory.yaml").mkdir()
    with pytest.raises(InvalidConfig) as caught:
        load(work, home, name)
    assert str(work / name) in str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "text", "says"),
    [
        (".yaml", "a: [1, hunter2", "line"),
        (".yaml", "- a\n- hunter2", "mapping"),
        (".yaml", "adminToken: a\nadminToken: hunter2", "twice"),
        (".yaml", "workers: {on: hunter2}", "must be text"),
        (".yaml", "a: &a\n  b: *a\n", "levels deep"),
        (".yaml", "a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        (".yaml", "a: hunter2\x01", "no YAML"),
        (".json", '{"a": hunter2}', "line 1"),
        (".json", '{"a": 1, "a": 2}', "twice"),
        (".toml", "a = hunter2", "line 1"),
        (".py", "config = 1", "mapping"),
        (".py", "raise RuntimeError('no')", "RuntimeError: no"),
        (".py", "def config():\n    return {}['key']", "KeyError"),
        (".py", "x = (", "SyntaxError"),
        (".py", "raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_malformed_file_is_named_and_never_quoted(work: Path, home: Path, suffix: str, text: str, says: str) -> None:
    path = work / f"taskcast.config{suffix}"
    path.write_text(text)
    with pytest.raises(InvalidConfig) as caught:
        load(work, home)
    assert says in str(caught.value)
    assert path.name in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_bytes_that_are_no_text(work: Path, home: Path) -> None:
    (work / "taskcast.config.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidConfig, match="cannot be read"):
        load(work, home)


@pytest.mark.parametrize("suffix", [".yaml", ".json", ".toml", ".py"])
def test_an_empty_file_is_an_empty_configuration(work: Path, home: Path, suffix: str) -> None:
    (work / f"taskcast.config{suffix}").write_text("")
    assert load(work, home).core.log_level == "info"


def test_a_python_file_hands_over_live_objects(work: Path, home: Path) -> None:
    (work / "beside.py").write_text("class Store:\n    pass\n")
    (work / "taskcast.config.py").write_text(
        "from beside import Store\n"
        "class Hooks:\n"
        "    def task_created(self, task): ...\n"
        "store, bell = Store(), Store()\n"
        "def config():\n"
        "    return {\n"
        "        'logLevel': '${LEVEL:-warn}',\n"
        "        'adapters': {'short_term_store': store, 'broadcast': {'provider': bell}},\n"
        "        'hooks': [Hooks()],\n"
        "    }\n"
    )
    path = list(sys.path)
    core = load(work, home).core
    assert type(core.adapters.short_term_store.live).__name__ == "Store"
    assert type(core.adapters.broadcast.live).__name__ == "Store"
    assert type(core.hooks[0]).__name__ == "Hooks"
    assert core.log_level == "warn"
    assert sys.path == path
    assert not (work / "__pycache__" / "taskcast.config.cpython-311.pyc").exists()
    sys.modules.pop("beside")

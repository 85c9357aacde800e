"""The Kubernetes manifests: valid where a validator is installed, and of one mind with the server everywhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskcast_core.background import SHUTDOWN_S
from taskcast_core.config import load_config
from taskcast_core.plugins import Plugins
from taskcast_server.routes.table import route_table
from taskcast_server.serve import FINISH_S
from tests.tools.version import ROOT

MANIFEST = ROOT / "docs" / "deploy" / "kubernetes" / "taskcast.yaml"


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    """The documents by their kind."""
    return {each["kind"]: each for each in yaml.safe_load_all(MANIFEST.read_text())}


@pytest.fixture
def pod(manifests: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifests["Deployment"]["spec"]["template"]["spec"]
    return found


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod["containers"]
    return dict(found)


@pytest.mark.skipif(importlib.util.find_spec("kubernetes_validate") is None, reason="no schemas installed")
def test_the_schemas_accept_them(manifests: dict[str, Any]) -> None:
    import kubernetes_validate

    for each in manifests.values():
        kubernetes_validate.validate(each, "1.30", strict=True)


def test_everything_has_one_name_and_labels_that_select_it(manifests: dict[str, Any], pod: dict[str, Any]) -> None:
    labels = {"app.kubernetes.io/name": "taskcast"}
    assert all(
        each["metadata"] == {**each["metadata"], "name": "taskcast", "labels": labels} for each in manifests.values()
    )
    assert manifests["Deployment"]["spec"]["template"]["metadata"]["labels"] == labels
    assert manifests["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels


def test_service_links_are_off(pod: dict[str, Any]) -> None:
    """A Service named taskcast would set TASKCAST_PORT=tcp://10.0.0.1:80."""
    assert pod["enableServiceLinks"] is False


def test_probes_ask_for_routes_that_exist(container: dict[str, Any]) -> None:
    routes = {(route.method, route.path) for route in route_table()}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert ("GET", asked["path"]) in routes
        assert asked["port"] == container["ports"][0]["name"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/health", "liveness must not depend on the stores"
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"


def test_a_node_is_given_time_to_drain(pod: dict[str, Any], container: dict[str, Any]) -> None:
    (_, pause_s) = container["lifecycle"]["preStop"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] >= int(pause_s) + FINISH_S + 2 * SHUTDOWN_S
    probe = container["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] <= 10


def test_nobody_has_rights(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    user = next(line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("USER "))
    assert user == f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    for each in (*pod["containers"], *pod["initContainers"]):
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert each["resources"]["limits"]["memory"]


def test_the_configuration_is_one(manifests: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "taskcast.config.yaml"
    path.write_text(manifests["ConfigMap"]["data"]["taskcast.config.yaml"])
    plugins = Plugins()
    config = load_config(path, env=manifests["Secret"]["stringData"], plugins=plugins)
    plugins.check(config)
    assert config.warnings == ()
    assert plugins.select("short_term_store", config).name == "redis"  # type: ignore[union-attr]
    assert plugins.select("long_term_store", config).name == "postgres"  # type: ignore[union-attr]


def test_the_ingress_passes_streams_on(manifests: dict[str, Any]) -> None:
    annotations = manifests["Ingress"]["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) >= 600

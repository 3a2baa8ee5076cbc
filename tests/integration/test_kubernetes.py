"""The manifests are what an API server takes, and say of the server what is true of it."""

import json
import re
import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from service.api.server import LAST_ANSWERS_S
from service.cli import app
from service.settings import DEFAULT_PORT, Settings, load_settings
from service.store.repository import ModelRepository
from tests.integration.conftest import LiveServer
from tests.integration.manifests import (
    BUILDS,
    COMPONENTS,
    DEPLOY,
    KSERVE,
    KUBERNETES,
    Manifest,
    build,
    check,
    containers_of,
    of_kind,
    pod_of,
    read,
)

DOCKERFILE = (DEPLOY.parent / "docker" / "Dockerfile").read_text()
ALTERNATIVES = [
    (KUBERNETES / "base", ("components/fetched-store",)),
    (KUBERNETES / "base", ("components/keys",)),
    (KUBERNETES / "overlays" / "cpu-small", ("components/monitoring", "components/keda")),
]
ALL = [
    *(pytest.param(build(KUBERNETES / name), id=name) for name in BUILDS),
    *(
        pytest.param(build(folder, extra), id=f"{folder.name} with {' and '.join(extra)}")
        for folder, extra in ALTERNATIVES
    ),
    pytest.param([read(path) for path in KSERVE], id="kserve"),
]
SERVERS = [
    *(build(KUBERNETES / name)[0] for name in BUILDS if name != "jobs"),
    read(KSERVE[0]),
]
POD_GRACE_S = {
    "Deployment": SERVERS[0]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
    "ServingRuntime": read(KSERVE[1])["spec"]["predictor"]["terminationGracePeriodSeconds"],
}
servers = pytest.mark.parametrize("manifest", SERVERS, ids=lambda one: one["kind"])


@pytest.mark.parametrize("resources", ALL)
def test_api_server_takes_every_manifest(resources: list[Manifest]) -> None:
    for manifest in resources:
        check(manifest)


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("base/deployment.yaml", {"spec": {"replica": 2}}),
        ("base/autoscaler.yaml", {"spec": {"maxReplicas": "many"}}),
        ("components/monitoring/service-monitor.yaml", {"spec": {"endpoint": []}}),
        ("components/keda/scaled-object.yaml", {"spec": {"minReplicas": 2}}),
        ("../kserve/serving-runtime.yaml", {"spec": {"protocolVersions": ["v3"]}}),
        ("../kserve/inference-service.yaml", {"spec": {"predictor": {"model": {"uri": "x"}}}}),
    ],
)
def test_a_wrong_field_is_seen(path: str, wrong: Any) -> None:
    manifest = read(KUBERNETES / path)
    _put(manifest, wrong)
    with pytest.raises(jsonschema.ValidationError):
        check(manifest)


def test_every_component_and_resource_is_built_by_something() -> None:
    used = {component for _, extra in ALTERNATIVES for component in extra}
    assert used == set(COMPONENTS)
    named = {
        (file.parent / name).resolve()
        for file in KUBERNETES.rglob("kustomization.yaml")
        for name in [
            *read(file).get("resources", []),
            *(patch["path"] for patch in read(file).get("patches", [])),
        ]
    }
    there = {
        file.resolve() for file in KUBERNETES.glob("*/**/*.yaml") if file.stem != "kustomization"
    }
    assert there <= named


@pytest.mark.parametrize("resources", ALL)
def test_pods_have_no_privileges_and_bounds(resources: list[Manifest]) -> None:
    for manifest in resources:
        for container in containers_of(manifest) if manifest["kind"] != "InferenceService" else ():
            security = container["securityContext"] | pod_of(manifest).get("securityContext", {})
            assert security["readOnlyRootFilesystem"]
            assert not security["allowPrivilegeEscalation"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}
            assert security["runAsNonRoot"]
            assert f"USER {security['runAsUser']}:{security['runAsGroup']}\n" in DOCKERFILE
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            volumes = {volume["name"] for volume in pod_of(manifest)["volumes"]}
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


@servers
def test_probes_are_answered(manifest: Manifest, server: LiveServer) -> None:
    (container,) = containers_of(manifest)
    (port,) = container["ports"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] in (port["name"], port["containerPort"])
        assert server.client.get(asked["path"]).status_code == 200
        assert asked["path"] in server.client.get("/openapi.json").json()["paths"]


@servers
def test_pod_outlives_the_drain(manifest: Manifest) -> None:
    (container,) = containers_of(manifest)
    settings = _settings_in(container)
    drain_s = getattr(settings, "drain_s", 0)
    last_s = max(settings.shutdown_grace_s, settings.request_timeout_s) + LAST_ANSWERS_S
    stop_s = container["lifecycle"]["preStop"]["sleep"]["seconds"] + drain_s + last_s
    assert stop_s < POD_GRACE_S[manifest["kind"]] <= 2 * stop_s


@servers
def test_settings_are_known_and_fit_the_image(manifest: Manifest) -> None:
    (container,) = containers_of(manifest)
    settings = _settings_in(container)
    assert settings.max_queue_tokens
    assert f"ENCSERVE_PORT={DEFAULT_PORT} " in DOCKERFILE
    assert container["ports"][0]["containerPort"] == DEFAULT_PORT
    assert container.get("args", ["serve"]) == ["serve"]
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    if manifest["kind"] == "Deployment":
        assert re.search(r"ENCSERVE_MODEL_STORE=(\S+)", DOCKERFILE)[1] in mounts  # type: ignore[index]
    else:
        assert str(settings.model_store) == "/mnt/models"


@pytest.mark.parametrize("name", [name for name in BUILDS if name != "jobs"])
def test_everything_means_the_same_pods(name: str) -> None:
    resources = build(KUBERNETES / name, () if "large" in name else ("components/monitoring",))
    deployment, service = of_kind(resources, "Deployment"), of_kind(resources, "Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    ports = {port["name"] for port in next(containers_of(deployment))["ports"]}
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        of_kind(resources, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of_kind(resources, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(
            spread["labelSelector"]["matchLabels"]
            for spread in pod_of(deployment)["topologySpreadConstraints"]
        ),
    ]
    assert all(selector == labels for selector in selectors)
    (rule,) = of_kind(resources, "NetworkPolicy")["spec"]["ingress"]
    assert {port["port"] for port in rule["ports"]} == ports
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    monitor = of_kind(resources, "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {one["port"] for one in monitor["endpoints"]} == {
        port["name"] for port in service["spec"]["ports"]
    }
    # The rules ask for job="encserve".
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "encserve"
    scalers = [one for one in resources if "scaleTargetRef" in one["spec"]]
    assert [one["spec"]["scaleTargetRef"]["name"] for one in scalers] == ["encserve"]


def test_job_makes_the_default_models() -> None:
    (job,) = build(KUBERNETES / "jobs")
    (container,) = containers_of(job)
    assert container["args"] == ["bootstrap", "--model-store", "/models"]
    assert f"CMD {json.dumps(container['args'])}\n" in DOCKERFILE
    claims = {
        volume.get("persistentVolumeClaim", {}).get("claimName")
        for volume in pod_of(job)["volumes"]
    }
    assert (
        of_kind(build(KUBERNETES / "base"), "PersistentVolumeClaim")["metadata"]["name"] in claims
    )


def test_init_step_fills_the_store_that_the_server_reads(tiny_store: Path, tmp_path: Path) -> None:
    resources = build(KUBERNETES / "base", ("components/fetched-store",))
    fetch, serve = containers_of(of_kind(resources, "Deployment"))
    assert fetch["volumeMounts"][0]["mountPath"] == serve["volumeMounts"][0]["mountPath"]
    source = str(tiny_store / "embedding" / "1")
    given = {"hf://ORG/NAME": source, "/models": str(tmp_path)}
    done = CliRunner().invoke(app, [given.get(word, word) for word in fetch["args"]])
    assert done.exit_code == 0, done.output
    assert ModelRepository(tmp_path).names() == ["embedding"]
    assert "PersistentVolumeClaim" not in [one["kind"] for one in resources]


def test_kinds_of_sources_are_those_that_the_images_can_fetch() -> None:
    root = DEPLOY.parent
    sources = tomllib.loads((root / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]["sources"]
    needed = {Requirement(one).name for one in sources} - {"fsspec"} | {"aiohttp"}
    told = (KUBERNETES / "README.md").read_text()
    assert "Neither holds the extra `sources`" in told
    assert "`lock`" in told
    for half in ("server", "offline"):
        locked = (root / "requirements" / f"{half}.txt").read_text()
        held = {name for name in needed if re.search(rf"^{name}==", locked, re.MULTILINE)}
        assert held == {"huggingface-hub"}, "models.yaml and the README say what is fetched"
    (fetch, _) = containers_of(
        of_kind(build(KUBERNETES / "base", ("components/fetched-store",)), "Deployment")
    )
    assert fetch["args"][1].startswith("hf://")


def test_keys_are_read_where_the_secret_is_mounted() -> None:
    deployment = of_kind(build(KUBERNETES / "base", ("components/keys",)), "Deployment")
    (container,) = containers_of(deployment)
    file = _settings_in(container).api_keys_file
    (mount,) = (one for one in container["volumeMounts"] if one["name"] == "keys")
    assert file is not None
    assert str(file.parent) == mount["mountPath"]
    assert (
        f"--from-file={file.name}"
        in (KUBERNETES / "components/keys/kustomization.yaml").read_text()
    )
    # The server's own mounts are still there.
    assert {one["name"] for one in container["volumeMounts"]} == {"models", "tmp", "keys"}


def test_inference_service_asks_the_protocol_for_a_model_that_is_served(
    server: LiveServer,
) -> None:
    runtime, service = map(read, KSERVE)
    name, predictor = service["metadata"]["name"], service["spec"]["predictor"]
    assert predictor["model"]["runtime"] == runtime["metadata"]["name"]
    assert predictor["model"]["protocolVersion"] in runtime["spec"]["protocolVersions"]
    formats = [(one["name"], one["version"]) for one in runtime["spec"]["supportedModelFormats"]]
    wanted = predictor["model"]["modelFormat"]
    assert (wanted["name"], wanted["version"]) in formats
    assert predictor["model"]["env"] == [{"name": "ENCSERVE_MODELS", "value": name}]
    text = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["the food is good"]}
    answer = server.client.post(f"/v2/models/{name}/infer", json={"inputs": [text]})
    assert answer.status_code == 200
    assert server.client.get(f"/v2/models/{name}/ready").status_code == 200


def _settings_in(container: Manifest) -> Settings:
    """As the server would read them; a wrong name or value raises."""
    written = {one["name"]: one["value"] for one in container["env"]}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in written.items():
            patch.setenv(name, value)
        return load_settings()


def _put(manifest: Manifest, more: Manifest) -> None:
    for key, value in more.items():
        if isinstance(value, dict):
            _put(manifest.setdefault(key, {}), deepcopy(value))
        else:
            manifest[key] = value

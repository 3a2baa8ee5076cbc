"""Kubernetes manifests as `kubectl kustomize` would send them, and what must hold for each."""

import json
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
# What overlays and jobs build; components are built with the overlays that name them.
BUILDS = ("base", "overlays/cpu-small", "overlays/cpu-large", "jobs")
COMPONENTS = (
    "components/monitoring",
    "components/keda",
    "components/fetched-store",
    "components/keys",
)
# From the oldest that has all fields to the newest that the schemas are there for.
VERSIONS = ("1.30", "1.34", "1.37")
KSERVE = (DEPLOY / "kserve" / "serving-runtime.yaml", DEPLOY / "kserve" / "inference-service.yaml")

Manifest = dict[str, Any]


def read(path: Path) -> Manifest:
    found: Manifest = yaml.safe_load(path.read_text())
    return found


def build(folder: Path, extra: tuple[str, ...] = ()) -> list[Manifest]:
    """The resources of a kustomization: those it names, its components', with all patches put in.

    Args:
        extra: components that the kustomization does not name, put in last.
    """
    resources: list[Manifest] = []
    _put_in(folder, resources)
    for component in extra:
        _put_in(KUBERNETES / component, resources)
    return resources


def of_kind(resources: list[Manifest], kind: str) -> Manifest:
    (found,) = (resource for resource in resources if resource["kind"] == kind)
    return found


def check(manifest: Manifest) -> None:
    """Raise `jsonschema.ValidationError` unless the API server knows every field, of its type."""
    if manifest["kind"] in PUBLISHED:
        assert manifest.keys() <= {"apiVersion", "kind", "metadata", "spec"}
        _custom(manifest["kind"]).validate(manifest["spec"])
        return
    group, _, version = manifest["apiVersion"].rpartition("/")
    kind = "-".join(part for part in (manifest["kind"], group.partition(".")[0], version) if part)
    for kubernetes in VERSIONS:
        _core(kubernetes, kind.lower()).validate(manifest)


def containers_of(manifest: Manifest) -> Iterator[Manifest]:
    """Of whatever has some: pods' templates, a ServingRuntime."""
    spec = pod_of(manifest)
    yield from spec.get("initContainers", [])
    yield from spec.get("containers", [])


def pod_of(manifest: Manifest) -> Manifest:
    spec: Manifest = manifest["spec"]
    return spec["template"]["spec"] if "template" in spec else spec


def _put_in(folder: Path, resources: list[Manifest]) -> None:
    kustomization = read(folder / "kustomization.yaml")
    known = {"apiVersion", "kind", "resources", "components", "patches"}
    assert kustomization.keys() <= known, "this reader does not know all of kustomize"
    for name in kustomization.get("resources", []):
        path = folder / name
        if path.is_dir():
            _put_in(path, resources)
        else:
            resources.append(read(path))
    for name in kustomization.get("components", []):
        _put_in(folder / name, resources)
    for patch in kustomization.get("patches", []):
        _patch(resources, read(folder / patch["path"]))


def _patch(resources: list[Manifest], patch: Manifest) -> None:
    place = next(at for at, one in enumerate(resources) if _identity(one) == _identity(patch))
    if patch.get("$patch") == "delete":
        del resources[place]
    else:
        resources[place] = _merged(resources[place], patch)


def _identity(manifest: Manifest) -> tuple[str, str, str]:
    return manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"]


def _merged(old: Any, new: Any) -> Any:
    """Objects by their fields, null takes one away; lists of named things by name, others whole."""
    if isinstance(old, dict) and isinstance(new, dict):
        together = old | {key: _merged(old.get(key), value) for key, value in new.items()}
        return {key: value for key, value in together.items() if value is not None}
    if isinstance(new, list) and all(isinstance(item, dict) and "name" in item for item in new):
        by_name = {item["name"]: item for item in old or []}
        added = {item["name"]: _merged(by_name.get(item["name"]), item) for item in new}
        return list(
            (added | {key: item for key, item in by_name.items() if key not in added}).values()
        )
    return deepcopy(new)


PUBLISHED = read(Path(__file__).with_name("published_fields.yaml"))


@cache
def _core(kubernetes: str, kind: str) -> Draft202012Validator:
    schema = _schema(kubernetes, kind)
    return Draft202012Validator(schema, registry=_definitions(kubernetes))


@cache
def _custom(kind: str) -> Draft202012Validator:
    schema = PUBLISHED[kind] | {"definitions": PUBLISHED["definitions"]}
    return Draft202012Validator(schema, registry=_definitions(VERSIONS[-1]))


@cache
def _definitions(kubernetes: str) -> Registry[Any]:
    """Crawled once: that takes most of the time."""
    definitions = Resource.from_contents(_schema(kubernetes, "_definitions"))
    found: Registry[Any] = Registry().with_resources(
        [(definitions.id() or "", definitions), ("kubernetes:", definitions)]
    )
    return found.crawl()


def _schema(kubernetes: str, name: str) -> Any:
    """kubernetes-validate brings the schemas; strict ones know no field that they do not name."""
    folder = files("kubernetes_validate") / f"kubernetes-json-schema/v{kubernetes}.0-local-strict"
    return json.loads((folder / f"{name}.json").read_text())

"""`kubectl kustomize` (1.27 or later) builds what the reader of the tests builds."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.integration.manifests import BUILDS, KUBERNETES, Manifest, build

WITH = [(name, ()) for name in BUILDS] + [
    ("base", ("components/fetched-store",)),
    ("base", ("components/keys",)),
    ("overlays/cpu-small", ("components/monitoring", "components/keda")),
]


@pytest.mark.parametrize(("name", "extra"), WITH)
def test_kubectl_builds_the_same(name: str, extra: tuple[str, ...], tmp_path: Path) -> None:
    folder = KUBERNETES / name
    if extra:
        folder = _overlay(tmp_path / "kubernetes" / "own", name, extra)
    built = _kubectl(folder)
    assert _by_name(built) == _by_name(build(KUBERNETES / name, extra))


def _overlay(folder: Path, name: str, extra: tuple[str, ...]) -> Path:
    """An overlay as a user writes it, beside a copy of ours."""
    shutil.copytree(KUBERNETES, folder.parent)
    folder.mkdir()
    own = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"../{name}"],
        "components": [f"../{component}" for component in extra],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(own))
    return folder


def _kubectl(folder: Path) -> list[Manifest]:
    command = shutil.which("kubectl")
    assert command, "kubectl is missing: see https://kubernetes.io/docs/tasks/tools/"
    done = subprocess.run(
        [command, "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def _by_name(resources: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    return {(one["kind"], one["metadata"]["name"]): one for one in resources}

"""A copy of a model store with more versions: one to compare with, one that is broken."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from service.store.manifest import ManifestFields
from service.store.repository import ModelRepository, PublishedModel


@dataclass(frozen=True)
class Versions:
    """canary, shadow: of both models, with the files of the current one. broken: of sentiment."""

    canary: str
    shadow: str
    broken: str


def copy_with_versions(store: Path, into: Path) -> Versions:
    """Copy `embedding` and `sentiment`, and publish them again; the current versions stay."""
    repository = ModelRepository(into)
    for name in ("embedding", "sentiment"):
        shutil.copytree(store / name, into / name)
        current = repository.resolve(name).manifest.version
        canary, shadow, last = (publish_again(repository, name) for _ in range(3))
        repository.set_current(name, current)
    with last.file("model.onnx").open("r+b") as file:
        file.write(b"damaged")
    found = (one.manifest.version for one in (canary, shadow, last))
    return Versions(*found)


def publish_again(repository: ModelRepository, name: str) -> PublishedModel:
    """The next version, with the files of the current one."""
    model = repository.resolve(name)
    with repository.draft(name) as draft:
        for file in model.manifest.files:
            target = draft.path / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(model.file(file), target)
        fields = {field: getattr(model.manifest, field) for field in ManifestFields.model_fields}
        return draft.publish(ManifestFields(**fields))

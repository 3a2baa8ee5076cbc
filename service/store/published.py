"""One published version: its folder, and what its manifest says."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from service.errors import ModelNotFound
from service.store.files import read_plain
from service.store.manifest import MANIFEST_FILE, Manifest, parse_manifest

MOST_MANIFEST_BYTES = 2**22


@dataclass(frozen=True)
class PublishedModel:
    """One version: its folder, what its manifest says, and the digest of that file."""

    path: Path
    manifest: Manifest
    manifest_sha256: str

    def file(self, name: str) -> Path:
        return self.path / name


def read_version(folder: Path) -> PublishedModel:
    """The version that `folder` holds; its files are not yet verified.

    Raises:
        ModelNotFound: there is no manifest.
        ManifestInvalid: it cannot be read.
        ModelCorrupt: it is a link, a pipe, or far too long.
    """
    try:
        data = read_plain(folder / MANIFEST_FILE, MOST_MANIFEST_BYTES)
    except OSError as error:
        raise ModelNotFound(f"{folder} holds no published model") from error
    return PublishedModel(folder, parse_manifest(data), sha256(data).hexdigest())

"""Published versions from elsewhere: a folder, a hub, a bucket, a web server; proven on arrival.

A source holds what a version's folder holds. Its manifest comes first, and names every other file
with size and digest: nothing else is asked for, and nothing longer is read.
"""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from service.errors import InvalidField, ModelCorrupt, ModelNotFound
from service.offline.progress import Progress
from service.store.manifest import MANIFEST_FILE, Manifest, ManifestFields, parse_manifest
from service.store.repository import ModelRepository, PublishedModel, read_version
from service.store.signing import SIGNATURE_FILE
from service.store.verification import verify

MOST_MANIFEST_BYTES = 2**20
_PORTION_BYTES = 2**20

# Opens a file of the source by its name.
Open = Callable[[str], AbstractContextManager[BinaryIO]]


def publish_from(
    repository: ModelRepository,
    source: str,
    name: str,
    progress: Progress,
    *,
    max_bytes: int,
    check: Callable[[PublishedModel], None] = lambda model: None,
) -> PublishedModel:
    """Fetch the version that `source` holds, prove it, and publish it as the next one of `name`.

    Args:
        source: a local folder, hf://org/name[@revision], or a URL that fsspec opens, such as
            s3://bucket/folder, gs://bucket/folder or https://host/folder.
        max_bytes: of all files together.
        check: raises if the version, as it came, should not be published.

    Raises:
        ModelNotFound: there is no manifest at the source.
        ManifestInvalid, ModelCorrupt: the files are not those of the manifest.
        InvalidField: no such kind of source, or more than `max_bytes`.
    """
    open_file = _opener(source)
    with repository.draft(name) as draft:
        arrived = draft.path / "arrived"
        arrived.mkdir()
        manifest = _fetch_manifest(open_file, arrived, source)
        total = sum(entry.bytes for entry in manifest.files.values())
        if total > max_bytes:
            raise InvalidField(f"{source} holds {total} bytes, the limit is {max_bytes}")
        with progress.phase(f"{name}: fetch", len(manifest.files)) as phase:
            for file, entry in manifest.files.items():
                _fetch(open_file, file, arrived, entry.bytes)
                phase.advance(file)
        model = read_version(arrived)
        verify(model)
        check(model)
        for file in manifest.files:
            target = draft.path / file
            target.parent.mkdir(parents=True, exist_ok=True)
            (arrived / file).rename(target)
        shutil.rmtree(arrived)
        fields = {field: getattr(manifest, field) for field in ManifestFields.model_fields}
        published = draft.publish(ManifestFields(**fields))
    progress.say(f"{name}: published version {published.manifest.version} from {source}")
    return published


def _fetch_manifest(open_file: Open, folder: Path, source: str) -> Manifest:
    try:
        _fetch(open_file, MANIFEST_FILE, folder, MOST_MANIFEST_BYTES, exactly=False)
    except FileNotFoundError:
        raise ModelNotFound(f"{source} holds no {MANIFEST_FILE}") from None
    try:
        _fetch(open_file, SIGNATURE_FILE, folder, MOST_MANIFEST_BYTES, exactly=False)
    except FileNotFoundError:
        (folder / SIGNATURE_FILE).unlink(missing_ok=True)
    return parse_manifest((folder / MANIFEST_FILE).read_bytes())


def _fetch(
    open_file: Open, name: str, folder: Path, most_bytes: int, *, exactly: bool = True
) -> None:
    """Copy one file, never more than `most_bytes` of it."""
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    taken = 0
    try:
        with open_file(name) as there, target.open("wb") as here:
            while portion := there.read(_PORTION_BYTES):
                taken += len(portion)
                if taken > most_bytes:
                    raise ModelCorrupt(f"{name} is longer than {most_bytes} bytes")
                here.write(portion)
    except FileNotFoundError:
        if exactly:
            raise ModelCorrupt(f"{name} is missing at the source") from None
        raise
    if exactly and taken != most_bytes:
        raise ModelCorrupt(f"{name} has {taken} bytes at the source, {most_bytes} are stated")


def _opener(source: str) -> Open:
    kind, separator, rest = source.partition("://")
    if not separator:
        folder = Path(source)
        return lambda name: (folder / name).open("rb")
    if kind == "hf":
        return _hub_opener(rest)
    try:
        import fsspec
    except ImportError:
        raise InvalidField(
            f"a {kind}:// source needs the extra 'sources': pip install 'encserve[sources]'"
        ) from None
    try:
        files, path = fsspec.core.url_to_fs(source)
    except (ValueError, ImportError) as error:
        raise InvalidField(
            f"{kind}:// cannot be opened ({type(error).__name__}): sources are folders, hf://, "
            "s3://, gs:// and https://"
        ) from error
    return lambda name: files.open(f"{path.rstrip('/')}/{name}", "rb")


def _hub_opener(rest: str) -> Open:
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    repository, _, revision = rest.partition("@")

    def open_file(name: str) -> BinaryIO:
        try:
            path = huggingface_hub.hf_hub_download(repository, name, revision=revision or None)
        except (EntryNotFoundError, RepositoryNotFoundError) as error:
            raise FileNotFoundError(name) from error
        return Path(path).open("rb")

    return open_file
